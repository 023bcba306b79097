"""The binary tensor extension of Open Inference Protocol: tensors as bytes behind the JSON of a message.

Everything is little-endian and row-major. An element of a BYTES tensor has its length in front, as a uint32.
"""

import struct
from collections.abc import Iterable
from typing import Any, Final

from app.errors import ProtocolError

HEADER: Final = "Inference-Header-Content-Length"
PARAMETER: Final[dict[str, Any]] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "How many bytes of the body are JSON; what follows them are tensors in binary form. 0 if "
    "the body is one picture file.",
    "schema": {"type": "integer", "minimum": 0},
}

_LENGTH: Final = struct.Struct("<I")
_LONGEST_NUMBER: Final = 18


def header_length(value: str, body_bytes: int) -> int:
    """How many bytes of the body are JSON; 0 means that all of it is one tensor.

    Raises:
        ProtocolError: the header holds no number, or one that the body does not have room for.
    """
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _LONGEST_NUMBER):
        raise ProtocolError(f"Unable to parse {HEADER}, got: {value[:40]}")
    if not 0 <= int(value) <= body_bytes:
        raise ProtocolError(f"inference header size should be in range (0, {body_bytes}), got: {value}")
    return int(value)


def unpack(data: memoryview, count: int) -> list[bytes]:
    """The elements of a BYTES tensor, of which there must be `count`.

    Raises:
        ProtocolError: the lengths inside do not add up to the data.
    """
    elements: list[bytes] = []
    position = 0
    while position < len(data) and len(elements) < count:
        start = position + _LENGTH.size
        if start > len(data):
            raise ProtocolError(f"The length of BYTES element {len(elements)} is cut off.")
        (length,) = _LENGTH.unpack_from(data, position)
        position = start + length
        if position > len(data):
            raise ProtocolError(
                f"BYTES element {len(elements)} announces {length} bytes; {len(data) - start} are left."
            )
        elements.append(bytes(data[start:position]))
    if len(elements) < count or position < len(data):
        raise ProtocolError(
            f"The BYTES tensor should hold {count} elements; {len(elements)} were found, and "
            f"{len(data) - position} bytes are left."
        )
    return elements


def pack(elements: Iterable[bytes]) -> bytes:
    """The bytes of a BYTES tensor."""
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements)
