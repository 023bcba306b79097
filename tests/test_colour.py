import struct
from time import thread_time

import corpus
import numpy as np
import pytest
from corpus import encoded, scene
from PIL import Image

from app.errors import UnsupportedFormatError
from app.imaging import FORMATS, Limits, decode
from app.picture_formats import TIFF

PROFILE = corpus.other_colours()[1]


def with_profile(profile: bytes, form: str = "PNG") -> bytes:
    return encoded(corpus.other_colours()[0], form, icc_profile=profile)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_colours_of_another_profile_become_those_that_it_means(form: str) -> None:
    pixels = decode(with_profile(PROFILE, form)).pixels.astype(int)
    assert np.abs(pixels - decode(encoded(scene(), "PNG")).pixels).max() <= (6 if form == "PNG" else 40)


def test_a_profile_that_means_srgb_changes_no_pixel() -> None:
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged = decode(encoded(scene(), "PNG", icc_profile=srgb))
    assert np.array_equal(tagged.pixels, decode(encoded(scene(), "PNG")).pixels)


def test_a_broken_profile_counts_as_none() -> None:
    plain = decode(encoded(corpus.other_colours()[0], "PNG")).pixels
    converted = decode(with_profile(PROFILE)).pixels
    for end in range(1, len(PROFILE), 37):
        pixels = decode(with_profile(PROFILE[:end])).pixels
        assert np.array_equal(pixels, plain) or np.array_equal(pixels, converted)


def test_damage_in_a_profile_costs_no_picture_its_answer() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        assert decode(with_profile(corpus.mutated(PROFILE, random) or b"x")).pixels.shape == (32, 32, 3)


def test_a_profile_that_names_one_table_over_and_over_is_not_read() -> None:
    table = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, 100_000) + struct.pack(">II", 20, 1000) * 100_000
    tags = struct.pack(">I4sII", 1, b"D2B0", 144, len(table))
    profile = PROFILE[:128] + tags + table
    profile = struct.pack(">I", len(profile)) + profile[4:]
    began = thread_time()
    decode(with_profile(profile, "WEBP"))
    assert thread_time() - began < 0.1


@pytest.mark.parametrize("stored", [0, 30_000])
def test_the_transparent_level_of_16_bit_grey_is_white(stored: int) -> None:
    levels = np.full((32, 32), stored, dtype=np.uint16)
    data = encoded(Image.fromarray(levels), "PNG")
    assert (decode(corpus.with_chunk(data, b"tRNS", struct.pack(">H", stored))).pixels == 255).all()


def test_an_alpha_channel_in_which_nothing_is_transparent_is_not_worth_a_note() -> None:
    picture = decode(encoded(scene().convert("RGBA"), "PNG"))
    assert picture.notes == ()
    assert np.array_equal(picture.pixels, decode(encoded(scene(), "PNG")).pixels)


@pytest.mark.parametrize(("level", "noted"), [(0, True), (255, True), (128, True)])
def test_a_picture_of_one_colour_is_nearly_blank(level: int, noted: bool) -> None:
    assert ("nearly_blank" in decode(encoded(Image.new("L", (64, 64), level), "PNG")).notes) == noted


def test_a_colour_counts_as_something_even_where_it_is_not_brighter() -> None:
    image = Image.new("RGB", (64, 64), (100, 0, 0))
    image.paste((0, 51, 0), (0, 0, 32, 64))
    assert "nearly_blank" not in decode(encoded(image, "PNG")).notes


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "LA"])
def test_tiff_is_decoded_where_it_is_turned_on(mode: str) -> None:
    deep = Image.fromarray(np.asarray(scene().convert("L")).astype(np.uint16) * 257)
    image = deep if mode == "I;16" else scene().convert(mode)
    picture = decode(encoded(image, "TIFF"), limits=Limits(formats=(*FORMATS, TIFF)))
    looks = scene().convert("L" if mode == "I;16" else mode).convert("RGB").resize((32, 32))
    assert np.abs(picture.pixels.astype(int) - np.asarray(looks)).max() <= 12
    assert picture.format == TIFF


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_levels_without_a_meaning_are_refused(mode: str) -> None:
    data = encoded(Image.new(mode, (9, 9)), "TIFF")
    with pytest.raises(UnsupportedFormatError, match=f"mode {mode} "):
        decode(data, limits=Limits(formats=(*FORMATS, TIFF)))
