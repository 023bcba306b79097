"""A request that arrives whole and asks for nothing special, read without uvicorn's parser and its callbacks.

Only for refusing: a service at many times its capacity does little else. What is read here is a small part of
the grammar, and nothing that two readers could understand in two ways; all else is left to the parser.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from starlette.types import Scope

MAX_HEAD_BYTES: Final = 4096
_HEAD: Final = re.compile(
    rb"POST (/[0-9A-Za-z/._:-]*) HTTP/1\.1\r\n((?:[0-9A-Za-z-]+: [!-~][ -~]*\r\n){1,32})\r\n"
)
# They change what follows, on this connection or on the next request.
_SPECIAL: Final = frozenset({b"transfer-encoding", b"expect", b"connection", b"upgrade", b"te", b"trailer"})
_MOST_DIGITS: Final = 6
_END: Final = b"\r\n\r\n"
_REMEMBERED: Final = 256  # of a few hundred bytes each as a rule, of 4 KiB at most


class _Head(NamedTuple):
    path: bytes
    headers: list[tuple[bytes, bytes]]
    body_bytes: int


def scope_of(data: bytes, client: tuple[str, int] | None) -> Scope | None:
    """What ASGI calls the scope of the one request that `data` is, from `client`; None if it is not plain."""
    end = data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)
    head = _head(data[:end]) if end >= len(_END) else None
    if head is None or head.body_bytes != len(data) - end:
        return None
    return {
        "type": "http",
        "method": "POST",
        "path": head.path.decode(),
        "raw_path": head.path,
        "query_string": b"",
        "headers": head.headers,
        "client": client,
        "state": {},
    }


@lru_cache(_REMEMBERED)  # most clients send the same again and again
def _head(data: bytes) -> _Head | None:
    head = _HEAD.fullmatch(data)
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
    if not length.isdigit() or len(length) > _MOST_DIGITS:
        return None
    return _Head(head[1], headers, int(length))
