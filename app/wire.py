"""Protocol Buffers as they are on the wire, for looking into bytes before a library acts on what they say."""

from collections.abc import Iterator
from typing import Final

from app.errors import WireError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT: Final = 10


def messages(data: memoryview, *path: int) -> Iterator[memoryview]:
    """Every message, text or run of bytes at a path of field numbers, in order; numbers do not count.

    Raises:
        WireError: `data` is no message, or one on the way is not.
    """
    first, rest = path[0], path[1:]
    for number, value in fields(data):
        if number == first and value is not None:
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
        WireError: there are several, of which readers may take either.
    """
    found = texts(data, *path)
    if len(found) > 1:
        raise WireError("a field that can be there once is there twice")
    return found[0] if found else ""


def fields(data: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """The numbers of the fields, in order, and what those that have a length hold.

    Raises:
        WireError: `data` is no message.
    """
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, position = _varint(data, position)
            size = 0
        elif kind == _LENGTH:
            size, position = _varint(data, position)
        elif kind in _FIXED_BYTES:
            size = _FIXED_BYTES[kind]
        else:
            raise WireError(f"a field of the unknown kind {kind} stands at byte {position}")
        if number == 0 or size > len(data) - position:
            raise WireError(f"a field of {size} bytes does not fit at byte {position}")
        yield number, data[position : position + size] if kind == _LENGTH else None
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of up to 64 bits, and where the next byte is."""
    if position < len(data) and (byte := data[position]) < 0x80:  # as nearly all are
        return byte, position + 1
    value = 0
    for index, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise WireError(f"a number at byte {position} has no end")
