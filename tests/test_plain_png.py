"""The short way through a plain PNG ends where the long one does, and is taken for nothing else."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from conftest import Encode
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app import imaging, plain_png
from app.errors import PictureTooLargeError
from app.picture_structure import QUICK_BYTES, QUICK_PIXELS

SIDES = st.integers(1, 40)
PIXELS = arrays.arrays(np.uint8, st.tuples(SIDES, SIDES, st.just(3)))


def saved(pixels: np.ndarray, **options: object) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def opened(data: bytes) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image)


@given(pixels=PIXELS, level=st.integers(0, 9))
def test_the_pixels_are_those_that_were_saved(pixels: np.ndarray, level: int) -> None:
    found = plain_png.pixels(saved(pixels, compress_level=level))
    assert found is not None
    np.testing.assert_array_equal(found, pixels)


@given(pixels=PIXELS, data=st.data())
def test_a_damaged_file_gives_what_pillow_makes_of_it_or_nothing(
    pixels: np.ndarray, data: st.DataObject
) -> None:
    broken = bytearray(saved(pixels))
    position = data.draw(st.integers(0, len(broken) - 1))
    if data.draw(st.booleans()):
        broken[position] ^= data.draw(st.integers(1, 255))
    else:
        del broken[position:]
    found = plain_png.pixels(bytes(broken))
    if found is not None:
        np.testing.assert_array_equal(found, opened(bytes(broken)))


def test_several_pieces_of_data_are_joined() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    whole = saved(pixels)
    start, end = 41, len(whole) - 16
    middle = (start + end) // 2
    data = whole[:33]
    for part in (whole[start:middle], whole[middle:end]):
        kind = b"IDAT" + part
        data += len(part).to_bytes(4, "big") + kind + zlib.crc32(kind).to_bytes(4, "big")
    found = plain_png.pixels(data + whole[-12:])
    assert found is not None
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "I;16"])
def test_other_kinds_of_pixels_are_left_to_pillow(encode: Encode, mode: str) -> None:
    picture = Image.new("L", (32, 32), 9)
    assert (
        plain_png.pixels(encode(picture.convert(mode) if mode != "I;16" else picture.convert("I;16"))) is None
    )


def test_what_says_more_than_pixels_is_left_to_pillow(encode: Encode) -> None:
    picture = Image.new("RGB", (32, 32), "red")
    text = PngInfo()
    text.add_text("Comment", "hello")
    assert plain_png.pixels(encode(picture, pnginfo=text)) is None
    assert plain_png.pixels(encode(picture, dpi=(72, 72))) is None
    assert plain_png.pixels(encode(picture) + b"more") is None
    assert plain_png.pixels(encode(Image.new("RGB", (QUICK_PIXELS + 1, 1)))) is None
    assert plain_png.pixels(encode(picture) + bytes(QUICK_BYTES)) is None


def test_both_ways_describe_a_picture_alike(encode: Encode) -> None:
    for picture in (
        Image.new("RGB", (32, 32), "red"),
        Image.radial_gradient("L").resize((32, 32)).convert("RGB"),
    ):
        short, long = (imaging.decode(data) for data in (encode(picture), encode(picture, dpi=(72, 72))))
        np.testing.assert_array_equal(short.pixels, long.pixels)
        assert (short.format, short.width, short.height) == (long.format, long.width, long.height)
        assert short.notes == long.notes


def test_the_limits_hold_on_the_short_way_too(encode: Encode) -> None:
    limits = imaging.Limits(max_side=16)
    with pytest.raises(PictureTooLargeError, match="32 x 32"):
        imaging.decode(encode(Image.new("RGB", (32, 32))), limits=limits)
