import struct
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from conftest import Encode
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, features

from app import imaging, picture_structure
from app.errors import (
    BrokenPictureError,
    PictureError,
    PictureTooComplexError,
    PictureTooLargeError,
    UnsupportedFormatError,
)
from app.imaging import Limits, decode
from app.pixel_budget import FREE_PIXELS, PixelBudget

ORIENTATION = 0x0112
TURNED_AS_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def scene(width: int, height: int) -> Image.Image:
    """Smooth, with no symmetry that could hide a wrong turn."""
    return noise(6, 5, seed=3).resize((width, height), Image.Resampling.BICUBIC)


def levels_apart(one: Any, other: Any) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds almost nothing."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


# What is accepted, and what becomes of it


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_a_picture_of_the_right_size_keeps_its_pixels(
    encode: Encode, form: str, options: dict[str, Any]
) -> None:
    image = noise(32, 32)
    picture = decode(encode(image, form, **options))
    assert picture.pixels.dtype == np.uint8
    assert np.array_equal(picture.pixels, np.asarray(image))
    assert (picture.format, picture.width, picture.height, picture.notes) == (form, 32, 32, ())


@pytest.mark.parametrize("form", imaging.FORMATS)
def test_every_format_gives_the_same_picture(encode: Encode, form: str) -> None:
    image = scene(100, 80)
    expected = image.resize((32, 32), imaging.FILTER)
    picture = decode(encode(image, form, **({} if form in ("GIF", "BMP", "PNG") else {"quality": 95})))
    allowed = 48 if form == "GIF" else 8  # a GIF has 256 colours
    assert levels_apart(picture.pixels, expected) <= allowed
    assert (picture.format, picture.width, picture.height) == (form, 100, 80)


def test_avif_is_among_the_formats_where_pillow_has_it() -> None:
    assert ("AVIF" in imaging.FORMATS) == features.check("avif")


def test_the_size_asked_for_is_height_by_width(encode: Encode) -> None:
    assert decode(encode("red"), size=(20, 30)).pixels.shape == (20, 30, 3)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_seen_upright(
    encode: Encode, orientation: int, form: str, size: tuple[int, int]
) -> None:
    upright = scene(120, 90)
    turn = TURNED_AS_STORED[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(upright if turn is None else upright.transpose(turn), form, exif=exif, quality=95)
    picture = decode(data, size=size)
    assert levels_apart(picture.pixels, decode(encode(upright), size=size).pixels) <= 8
    assert (picture.width, picture.height) == (120, 90)
    assert ("rotated" in picture.notes) == (orientation != 1)


@pytest.mark.parametrize("garbage", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"", b"\0" * 50])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_garbage_in_the_metadata_costs_nothing(encode: Encode, form: str, garbage: bytes) -> None:
    image = scene(120, 90)
    if form == "PNG":
        plain = encode(image)
        data = plain[:33] + chunk(b"eXIf", garbage.removeprefix(b"Exif\0\0")) + plain[33:]
    else:
        data = encode(image, form, exif=garbage, quality=95)
    assert levels_apart(decode(data).pixels, decode(encode(image)).pixels) <= 8


@pytest.mark.parametrize("orientation", [0, 9, 99, 65535])
def test_an_orientation_that_does_not_exist_means_upright(encode: Encode, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert decode(encode(scene(40, 40), "JPEG", exif=exif)).notes == ()


def half_transparent_red() -> Image.Image:
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 16, 32))
    return image


@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("GIF", {})]
)
def test_transparent_parts_are_white_whatever_colour_hides_there(
    encode: Encode, form: str, options: dict[str, Any]
) -> None:
    picture = decode(encode(half_transparent_red(), form, **options))
    assert picture.pixels[5, 5].tolist() == pytest.approx([255, 0, 0], abs=1)
    assert picture.pixels[5, 25].tolist() == [255, 255, 255]
    assert "transparent" in picture.notes


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_colour_is_white_too(encode: Encode, mode: str) -> None:
    image = Image.new("RGB", (32, 32), "black").convert(mode)
    transparency = (0, 0, 0) if mode == "RGB" else 0
    assert (decode(encode(image, transparency=transparency)).pixels == 255).all()


def test_half_transparent_is_half_white(encode: Encode) -> None:
    picture = decode(encode(Image.new("LA", (32, 32), (0, 128))))
    assert picture.pixels == pytest.approx(np.full((32, 32, 3), 127), abs=1)


@pytest.mark.parametrize(("stored", "seen"), [(0, 0), (40000, 156), (65535, 255), (127 * 257, 127)])
def test_16_bit_grey_is_scaled_not_clipped(encode: Encode, stored: int, seen: int) -> None:
    deep = Image.fromarray(np.full((32, 32), stored, dtype=np.uint16))
    assert (decode(encode(deep)).pixels == seen).all()


@pytest.mark.parametrize(
    ("mode", "form"), [("1", "PNG"), ("L", "PNG"), ("L", "JPEG"), ("P", "PNG"), ("CMYK", "JPEG")]
)
def test_every_mode_becomes_rgb(encode: Encode, mode: str, form: str) -> None:
    image = scene(64, 64).convert(mode)
    picture = decode(encode(image, form))
    assert levels_apart(picture.pixels, image.convert("RGB").resize((32, 32), imaging.FILTER)) <= 12


def test_a_progressive_jpeg_is_a_jpeg(encode: Encode) -> None:
    image = scene(64, 64)
    plain, progressive = (decode(encode(image, "JPEG", progressive=flag)).pixels for flag in (False, True))
    assert levels_apart(plain, progressive) <= 1


def test_a_multi_picture_jpeg_shows_its_first_picture(encode: Encode) -> None:
    data = encode(scene(64, 48), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), "black")])
    picture = decode(data)
    assert (picture.format, picture.width) == ("JPEG", 64)
    assert levels_apart(picture.pixels, scene(64, 48).resize((32, 32), imaging.FILTER)) <= 24


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_an_animation_shows_its_first_frame(encode: Encode, form: str) -> None:
    later = [Image.new("RGB", (32, 32), colour) for colour in ("lime", "blue")]
    data = encode(Image.new("RGB", (32, 32), "red"), form, save_all=True, append_images=later)
    assert decode(data).pixels[9, 9].tolist() == pytest.approx([255, 0, 0], abs=2)


def test_what_follows_a_picture_is_ignored(encode: Encode) -> None:
    data = encode(scene(64, 48), "JPEG")
    assert np.array_equal(decode(data + b"<html>" * 1000).pixels, decode(data).pixels)


def test_a_tiny_picture_is_enlarged_and_says_so(encode: Encode) -> None:
    picture = decode(encode(Image.new("RGB", (1, 1), "red")))
    assert (picture.pixels == [255, 0, 0]).all()
    assert picture.notes == ("enlarged", "nearly_blank")


@given(levels=arrays(np.uint8, (32, 32), elements=st.integers(0, 255)))
def test_how_blank_a_picture_is_does_not_depend_on_how_it_is_computed(levels: NDArray[np.uint8]) -> None:
    assert imaging._variance(levels) == pytest.approx(levels.astype(float).var(), abs=1e-6)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_picture_is_not_blank_if_one_channel_shows_something(encode: Encode, channel: int) -> None:
    levels = np.full((32, 32, 3), 90, dtype=np.uint8)
    assert "nearly_blank" in decode(encode(Image.fromarray(levels))).notes
    levels[::2, :, channel] = 100
    assert "nearly_blank" not in decode(encode(Image.fromarray(levels))).notes


@pytest.mark.parametrize("size", [(2000, 1500), (700, 2100), (256, 256)])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(encode: Encode, size: tuple[int, int]) -> None:
    image = Image.blend(scene(*size), noise(*size), 0.2)
    data = encode(image, "JPEG", quality=90)
    whole = Image.open(BytesIO(data)).convert("RGB").resize((32, 32), imaging.FILTER)
    picture = decode(data)
    assert np.abs(picture.pixels.astype(int) - np.asarray(whole)).mean() <= 1
    assert (picture.width, picture.height) == size


# What is refused, and how


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello",
        b"BM but only a text",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\0\0\0\x18ftypqt  \0\0\0\0qt  mp42",
        b"\0\0\0\x0cJXL \r\n\x87\n",
        bytes(1000),
    ],
)
def test_what_is_no_picture_is_told_which_formats_are(data: bytes) -> None:
    with pytest.raises(UnsupportedFormatError, match="JPEG, PNG, WEBP, GIF, BMP"):
        decode(data)


@pytest.mark.parametrize("form", ["TIFF", "PPM", "ICO", "TGA", "EPS", "PDF", "JPEG2000"])
def test_other_formats_of_pillow_are_off(encode: Encode, form: str) -> None:
    with pytest.raises(UnsupportedFormatError):
        decode(encode(scene(32, 32), form))


@pytest.mark.parametrize("form", imaging.FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_that_ends_early_is_broken(encode: Encode, form: str) -> None:
    data = encode(noise(64, 64), form)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(BrokenPictureError):
            decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0", b"GIF89a\0\0\0\0\0\0\0"])
def test_a_header_alone_is_broken_not_unknown(data: bytes) -> None:
    with pytest.raises(BrokenPictureError):
        decode(data)


@pytest.mark.parametrize(
    ("width", "height", "complaint"),
    [
        (20_000, 20_000, r"more than 178,956,970 pixels; at most 50,000,000"),
        (10_000, 5_001, r"10000 x 5001, 50,010,000 pixels; at most 50,000,000"),
        (20_001, 1, r"20001 x 1 pixels; a side may have at most 20,000"),
        (1, 20_001, r"1 x 20001 pixels; a side may have at most 20,000"),
        (2**31 - 1, 2**31 - 1, "pixels"),
    ],
)
def test_a_bomb_is_refused_by_its_header_at_once(width: int, height: int, complaint: str) -> None:
    data = png_header(width, height)
    began = perf_counter()
    with pytest.raises(PictureTooLargeError, match=complaint):
        decode(data)
    assert perf_counter() - began < 0.1


def test_a_webp_of_34_bytes_cannot_ask_for_a_gigabyte() -> None:
    side = 16_383
    size = (side - 1) | (side - 1) << 14
    body = b"VP8L" + struct.pack("<I", 14) + b"\x2f" + struct.pack("<I", size) + bytes(9)
    with pytest.raises(PictureTooLargeError):
        decode(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)


def test_the_limits_can_be_set(encode: Encode) -> None:
    data = encode(scene(100, 80))
    decode(data, limits=Limits(max_pixels=8000, max_side=100))
    with pytest.raises(PictureTooLargeError, match="at most 7,999"):
        decode(data, limits=Limits(max_pixels=7999))
    with pytest.raises(PictureTooLargeError, match="at most 99"):
        decode(data, limits=Limits(max_side=99))


def scan_bomb(progressive: bytes, repeats: int) -> bytes:
    """Repeats the last scan of a progressive JPEG: thirty bytes of file for a pass over the whole picture."""
    last = progressive.rindex(b"\xff\xda")
    return progressive[:-2] + progressive[last:-2] * repeats + b"\xff\xd9"


def test_a_jpeg_with_more_scans_than_any_camera_writes_is_refused_at_once(encode: Encode) -> None:
    progressive = encode(Image.new("L", (800, 800)), "JPEG", progressive=True)
    decode(scan_bomb(progressive, 80))
    began = perf_counter()
    with pytest.raises(PictureTooComplexError, match="more than 100 scans"):
        decode(scan_bomb(progressive, 20_000))
    assert perf_counter() - began < 0.1


def test_a_scan_bomb_cannot_hide_behind_metadata_or_padding(encode: Encode) -> None:
    progressive = encode(Image.new("L", (64, 64)), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    comment = b"\xff\xfe\0\x04\xff\xd9"  # holds what looks like the end of the picture
    hidden = (b"\xff\xff\xff" + comment[1:] + progressive[last:-2]) * 200
    with pytest.raises(PictureTooComplexError, match="more than 100 scans"):
        decode(progressive[:-2] + hidden + b"\xff\xd9")


def test_metadata_that_looks_like_scans_is_not_counted(encode: Encode) -> None:
    profile = b"\xff\xda\0\x02" * 3000
    decode(encode(scene(64, 64), "JPEG", icc_profile=profile, comment=b"\xff\xda" * 200))


@pytest.mark.parametrize("make", [lambda: b"hello", lambda: png_header(9, 9), lambda: png_header(30_000, 1)])
def test_no_word_of_pillow_reaches_the_client(make: Callable[[], bytes]) -> None:
    with pytest.raises(PictureError) as refused:
        decode(make())
    assert not {"BytesIO", "0x", "Error", "PIL"} & set(str(refused.value).replace("<", " ").split())
    assert str(refused.value).endswith((".", "AVIF.", "BMP."))


@given(
    form=st.sampled_from(imaging.FORMATS),
    flips=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20
    ),
    cut=st.floats(0, 1),
)
@pytest.mark.filterwarnings("ignore")
def test_whatever_happened_to_a_file_it_is_a_picture_or_a_refusal(
    encode: Encode, form: str, flips: list[tuple[float, int]], cut: float
) -> None:
    data = bytearray(encode(scene(40, 30), form))
    for place, value in flips:
        data[int(place * len(data))] = value
    with suppress(PictureError):
        assert decode(bytes(data[: int(cut * len(data)) + 1])).pixels.shape == (32, 32, 3)


@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(PictureError):
        decode(data)


@given(st.lists(st.integers(FREE_PIXELS, 5 * FREE_PIXELS), min_size=1, max_size=20))
def test_pictures_that_are_decoded_together_hold_a_bounded_number_of_pixels(sizes: list[int]) -> None:
    most = 3 * FREE_PIXELS
    budget, lock, held = PixelBudget(most), threading.Lock(), list[int]()

    def decode(pixels: int) -> None:
        with budget.held(pixels):
            with lock:
                held.append(pixels)
                assert sum(held) <= most or len(held) == 1
            time.sleep(0.0001)
            with lock:
                held.remove(pixels)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(decode, sizes)) == [None] * len(sizes)


def test_small_pictures_wait_for_nobody() -> None:
    budget = PixelBudget(FREE_PIXELS)
    with budget.held(10 * FREE_PIXELS), budget.held(FREE_PIXELS - 1):
        pass


@pytest.mark.parametrize(("options", "several"), [({}, False), ({"progressive": True}, True)])
def test_the_scans_of_a_jpeg_are_those_of_its_first_picture(
    encode: Encode, options: dict[str, Any], several: bool
) -> None:
    """Phones put a second one behind it."""
    data = encode("red", "JPEG", **options)
    for whole in (data, data + encode("blue", "JPEG", progressive=True)):
        assert picture_structure.check_jpeg_scans(whole, pixels=48 * 40, max_scans=100) == several
