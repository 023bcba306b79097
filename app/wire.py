"""Protocol Buffers as they are on the wire, for looking into a file before a library acts on what it says."""

from collections.abc import Iterator
from typing import Final

from app.errors import GraphError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT: Final = 10


def messages(data: memoryview, *path: int) -> Iterator[memoryview]:
    """Every message, text or run of bytes at a path of field numbers, in order; numbers do not count.

    Raises:
        GraphError: `data` is no message, or one on the way is not.
    """
    first, rest = path[0], path[1:]
    for number, value in _fields(data):
        if number == first:
            if rest:
                yield from messages(value, *rest)
            else:
                yield value


def texts(data: memoryview, *path: int) -> list[str]:
    """The texts at a path; what is no UTF-8 comes with marks in it, and so equals no name that is sought."""
    return [bytes(value).decode(errors="replace") for value in messages(data, *path)]


def text(data: memoryview, *path: int) -> str:
    """The text at a path, empty if there is none.

    Raises:
        GraphError: there are several, of which readers may take either.
    """
    found = texts(data, *path)
    if len(found) > 1:
        raise GraphError("a field that can be there once is there twice")
    return found[0] if found else ""


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields with a length, and their numbers; the others are passed over."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, position = _varint(data, position)
            continue
        if kind == _LENGTH:
            size, position = _varint(data, position)
        elif kind in _FIXED_BYTES:
            size = _FIXED_BYTES[kind]
        else:
            raise GraphError(f"a field of the unknown kind {kind} stands at byte {position}")
        if number == 0 or size > len(data) - position:
            raise GraphError(f"a field of {size} bytes does not fit at byte {position}")
        if kind == _LENGTH:
            yield number, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of up to 64 bits, and where the next byte is."""
    value = 0
    for index, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise GraphError(f"a number at byte {position} has no end")
