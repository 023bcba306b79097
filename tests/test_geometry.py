import numpy as np
import pytest
from corpus import encoded, scene
from PIL import Image

from app import geometry
from app.geometry import Fit
from app.imaging import decode


def stripes(width: int, height: int) -> Image.Image:
    """Red, green and blue from left to right, a third each."""
    image = Image.new("RGB", (width, height), "lime")
    image.paste("red", (0, 0, width // 3, height))
    image.paste("blue", (2 * width // 3, 0, width, height))
    return image


def test_squash_keeps_all_of_a_picture() -> None:
    pixels = decode(encoded(stripes(300, 90), "PNG"), fit="squash").pixels
    assert [pixels[16, at].tolist() for at in (2, 16, 29)] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("turn", [None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180])
def test_crop_keeps_the_middle_of_a_picture(turn: Image.Transpose | None) -> None:
    image = stripes(300, 90) if turn is None else stripes(300, 90).transpose(turn)
    assert (decode(encoded(image, "PNG"), fit="crop").pixels == [0, 255, 0]).all()


def test_crop_keeps_proportions() -> None:
    image = scene(400, 300)
    middle = image.crop((50, 0, 350, 300))
    cropped = decode(encoded(image, "PNG"), fit="crop").pixels.astype(int)
    assert np.abs(cropped - decode(encoded(middle, "PNG")).pixels).max() <= 1


@pytest.mark.parametrize("fit", geometry.FITS)
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_a_picture_of_the_right_size_keeps_its_pixels(fit: Fit, size: tuple[int, int]) -> None:
    image = scene(size[1], size[0])
    assert np.array_equal(decode(encoded(image, "PNG"), size=size, fit=fit).pixels, np.asarray(image))


@pytest.mark.parametrize("fit", geometry.FITS)
def test_a_picture_in_a_corner_case_of_a_shape_is_still_a_picture(fit: Fit) -> None:
    for width, height in ((1, 1), (1, 20_000), (20_000, 1), (33, 31)):
        assert decode(encoded(Image.new("L", (width, height)), "PNG"), fit=fit).pixels.shape == (32, 32, 3)


def test_what_is_thrown_away_does_not_count_as_enlarged() -> None:
    data = encoded(scene(400, 30), "PNG")
    assert "enlarged" in decode(data, fit="squash").notes
    assert "enlarged" in decode(data, fit="crop").notes
    assert "enlarged" not in decode(encoded(scene(400, 32), "PNG"), fit="crop").notes


@pytest.mark.parametrize(("width", "height", "extreme"), [(4, 1, True), (1, 4, True), (39, 10, False)])
def test_an_extreme_shape_is_four_times_as_long_as_wide(width: int, height: int, extreme: bool) -> None:
    assert geometry.is_extreme(width, height) == extreme
