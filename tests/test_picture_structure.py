import struct
import zlib

import pytest
from conftest import Encode
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.picture_structure import QUICK_BYTES, QUICK_CHUNKS, QUICK_PIXELS, is_quick

SIDE = round(QUICK_PIXELS**0.5)
ICON = Image.new("RGB", (SIDE, SIDE), "red")


def with_chunks(picture: bytes, count: int) -> bytes:
    """A PNG with as many more chunks behind its header."""
    body = b"tIME" + bytes(7)
    chunk = struct.pack(">I", 7) + body + struct.pack(">I", zlib.crc32(body))
    return picture[:33] + count * chunk + picture[33:]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16"])
def test_a_small_png_of_any_mode_is_quick(encode: Encode, mode: str) -> None:
    assert is_quick(encode(ICON.convert("L").convert(mode) if mode == "I;16" else ICON.convert(mode)))


def test_what_could_take_longer_than_its_size_says_is_not(encode: Encode) -> None:
    text = PngInfo()
    text.add_text("Comment", "bomb" * 1000, zip=True)
    assert not is_quick(encode(ICON, pnginfo=text))
    assert not is_quick(encode(ICON, icc_profile=bytes(200)))
    assert not is_quick(encode(ICON, save_all=True, append_images=[Image.new("RGB", ICON.size)]))
    assert not is_quick(encode(ICON, exif=Image.Exif()._get_head() + bytes(20)))


def test_every_bound_is_held(encode: Encode) -> None:
    picture = encode(ICON)
    assert not is_quick(encode(Image.new("RGB", (SIDE, SIDE + 1))))
    assert not is_quick(picture + bytes(QUICK_BYTES))
    assert is_quick(with_chunks(picture, QUICK_CHUNKS - 3))
    assert not is_quick(with_chunks(picture, QUICK_CHUNKS - 2))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "BMP", "AVIF"])
def test_other_formats_take_a_thread(encode: Encode, form: str) -> None:
    assert not is_quick(encode(ICON, form))


@given(st.binary(max_size=60))
def test_it_can_be_asked_of_any_bytes(data: bytes) -> None:
    assert not is_quick(data)
    assert is_quick(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + data) in (True, False)
