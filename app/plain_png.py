"""Small PNG files of RGB pixels and nothing else, decoded without the way through a file.

To open a file takes Pillow longer than its decoder, which is used here as well, takes for so few pixels.
Everything that is less plain than this, or damaged, is left to that way, which also knows what to say of it.
"""

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.picture_structure import QUICK_BYTES, QUICK_PIXELS

# https://www.w3.org/TR/png-3/: signature and IHDR; the chunks' lengths and check values; IEND.
_START: Final = struct.Struct(">8sI4sII5sI")
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_IHDR_BYTES: Final = 13
_EIGHT_BITS_RGB: Final = bytes((8, 2, 0, 0, 0))  # no interlacing
_HEAD: Final = struct.Struct(">I4s")
_CHECK_BYTES: Final = 4
_END: Final = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def pixels(data: bytes) -> NDArray[np.uint8] | None:
    """uint8 [H, W, 3], read-only; None if the file is not as plain, small and whole as it has to be here."""
    if not _START.size < len(data) <= QUICK_BYTES:
        return None
    signature, length, kind, width, height, how, check = _START.unpack_from(data)
    is_plain = (signature, length, kind, how) == (_SIGNATURE, _IHDR_BYTES, b"IHDR", _EIGHT_BITS_RGB)
    if not is_plain or not 0 < width * height <= QUICK_PIXELS:
        return None
    if zlib.crc32(data[12 : _START.size - _CHECK_BYTES]) != check:
        return None
    compressed = _compressed(data)
    if compressed is None:
        return None
    try:
        image = Image.frombytes("RGB", (width, height), compressed, "zip", "RGB", 0)
    except (ValueError, OSError):
        return None
    return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, 3)


def _compressed(data: bytes) -> bytes | None:
    """What the IDAT chunks hold together; None if there is anything else up to the end of the file."""
    parts = []
    position, end = _START.size, len(data) - len(_END)
    while position < end:
        length, kind = _HEAD.unpack_from(data, position)
        begin, position = position + _HEAD.size, position + _HEAD.size + length + _CHECK_BYTES
        if kind != b"IDAT" or position > end:
            return None
        check = int.from_bytes(data[position - _CHECK_BYTES : position], "big")
        if zlib.crc32(data[begin - len(kind) : position - _CHECK_BYTES]) != check:
            return None
        parts.append(data[begin : position - _CHECK_BYTES])
    return b"".join(parts) if data.endswith(_END) else None
