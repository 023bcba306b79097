"""A request that arrives whole and asks for nothing special, read without uvicorn's parser and its callbacks.

Only for refusing: a service at many times its capacity does little else. What is read here is a small part of
the grammar, and nothing that two readers could understand in two ways; all else is left to the parser.
"""

import re
from typing import Final

from starlette.types import Scope

MAX_HEAD_BYTES: Final = 4096
_HEAD: Final = re.compile(
    rb"POST (/[0-9A-Za-z/._:-]*) HTTP/1\.1\r\n((?:[0-9A-Za-z-]+: [!-~][ -~]*\r\n){1,32})\r\n"
)
# They change what follows, on this connection or on the next request.
_SPECIAL: Final = frozenset({b"transfer-encoding", b"expect", b"connection", b"upgrade", b"te", b"trailer"})
_MOST_DIGITS: Final = 6


def scope_of(data: bytes, client: tuple[str, int] | None) -> Scope | None:
    """What ASGI calls the scope of the one request that `data` is, from `client`; None if it is not plain."""
    head = _HEAD.match(data, 0, MAX_HEAD_BYTES)
    if head is None:
        return None
    headers = []
    for line in head[2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        headers.append((name.lower(), value.rstrip()))
    names = [name for name, _ in headers]
    if names.count(b"host") != 1 or names.count(b"content-length") != 1 or not _SPECIAL.isdisjoint(names):
        return None
    length = headers[names.index(b"content-length")][1]
    if not length.isdigit() or len(length) > _MOST_DIGITS or int(length) != len(data) - head.end():
        return None
    return {
        "type": "http",
        "method": "POST",
        "path": head[1].decode(),
        "raw_path": head[1],
        "query_string": b"",
        "headers": headers,
        "client": client,
        "state": {},
    }
