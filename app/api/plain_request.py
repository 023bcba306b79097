"""A request that arrives whole and asks for nothing special, read without uvicorn's parser and its callbacks.

That is nearly every request to classify, and its parts would take the callbacks as long as the picture takes
the decoder. What is read here is a small part of the grammar, and nothing that two readers could understand
in two ways; all else is left to the parser.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

MAX_HEAD_BYTES: Final = 4096
_HEAD: Final = re.compile(
    rb"POST (/[0-9A-Za-z/._:-]*) HTTP/1\.1\r\n((?:[0-9A-Za-z-]+: [!-~](?:[ -~]*[!-~])?\r\n){1,32})\r\n"
)
# They change what follows, on this connection or on the next request.
_SPECIAL: Final = frozenset(
    {b"transfer-encoding", b"expect", b"connection", b"proxy-connection", b"upgrade", b"te", b"trailer"}
)
_MOST_DIGITS: Final = 6
_END: Final = b"\r\n\r\n"
_REMEMBERED: Final = 1024  # lines, of a hundred bytes as a rule, of 4 KiB at most
_Header = tuple[bytes, bytes]


class Head(NamedTuple):
    """What stands before a body of `body_bytes`: each header once, its name in lower case."""

    path: str
    raw_path: bytes
    headers: dict[bytes, bytes]
    body_bytes: int
    size_bytes: int


def read(data: bytes) -> Head | None:
    """The head of the one request that `data` is; the body is the rest. None for anything else."""
    end = data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)
    head = _head(data[:end]) if end >= len(_END) else None
    return head if head and head.body_bytes == len(data) - end else None


def _head(data: bytes) -> Head | None:
    head = _HEAD.fullmatch(data)
    if head is None:
        return None
    lines = head[2].split(b"\r\n")[:-1]
    headers = dict(map(_header, lines))
    if len(headers) < len(lines) or b"host" not in headers or not _SPECIAL.isdisjoint(headers):
        return None
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or len(length) > _MOST_DIGITS:
        return None
    return Head(head[1].decode(), head[1], headers, int(length), len(data))


@lru_cache(_REMEMBERED)  # most lines are the same in each request of a client
def _header(line: bytes) -> _Header:
    name, _, value = line.partition(b": ")
    return name.lower(), value
