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
    rb"POST (/[0-9A-Za-z/._:-]*) HTTP/1\.1\r\n((?:[0-9A-Za-z-]+: [!-~][ -~]*\r\n){1,32})\r\n"
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
    """What stands before a body of `body_bytes`; the names of headers are in lower case."""

    path: str
    raw_path: bytes
    headers: tuple[_Header, ...]
    names: tuple[bytes, ...]
    body_bytes: int
    size_bytes: int


class PlainRequest(NamedTuple):
    """A POST that asks for nothing special, all of which is in `data`."""

    head: Head
    data: bytes

    @property
    def body(self) -> bytes:
        return self.data[self.head.size_bytes :]


def read(data: bytes) -> PlainRequest | None:
    """The one request that `data` is; None if it is anything else."""
    end = data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)
    head = _head(data[:end]) if end >= len(_END) else None
    if head is None or head.body_bytes != len(data) - end:
        return None
    return PlainRequest(head, data)


def _head(data: bytes) -> Head | None:
    head = _HEAD.fullmatch(data)
    if head is None:
        return None
    headers = tuple(map(_header, head[2].split(b"\r\n")[:-1]))
    names = tuple([name for name, _ in headers])
    if names.count(b"host") != 1 or names.count(b"content-length") != 1 or not _SPECIAL.isdisjoint(names):
        return None
    length = headers[names.index(b"content-length")][1]
    if not length.isdigit() or len(length) > _MOST_DIGITS:
        return None
    return Head(head[1].decode(), head[1], headers, names, int(length), len(data))


@lru_cache(_REMEMBERED)  # most lines are the same in each request of a client
def _header(line: bytes) -> _Header:
    name, _, value = line.partition(b": ")
    return name.lower(), value.rstrip()
