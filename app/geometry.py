"""From a picture of any shape to the shape that the network takes, and upright."""

from typing import Final, Literal, get_args

from PIL import Image

Fit = Literal["squash", "crop"]
FITS: Final[tuple[Fit, ...]] = get_args(Fit)
DEFAULT_FIT: Final[Fit] = "squash"
FILTER: Final = Image.Resampling.BICUBIC
EXTREME_RATIO: Final = 4  # from here on, hardly anything is recognised when it is squashed

_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def resized(
    image: Image.Image, size: tuple[int, int], fit: Fit, resample: Image.Resampling = FILTER
) -> Image.Image:
    """`image` in `size` = (height, width), antialiased; one that has the size already keeps its pixels.

    "squash" keeps all of it and may change its proportions; "crop" keeps the proportions and the middle.
    """
    height, width = size
    if image.size == (width, height):
        return image
    return image.resize((width, height), resample, box=_region(image.size, size, fit))


def kept(stored: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[float, float]:
    """(width, height) of the part that is used of a picture of (width, height) `stored`."""
    left, top, right, bottom = _region(stored, size, fit)
    return right - left, bottom - top


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """`image` turned by its EXIF orientation, 1 to 8."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def is_extreme(width: int, height: int) -> bool:
    """Whether the shape is so wide or tall that what it shows may be lost."""
    return max(width, height) >= EXTREME_RATIO * min(width, height)


def _region(stored: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in fractions of pixels, so that a picture turned around keeps its middle."""
    (width, height), (out_height, out_width) = stored, size
    if fit == "squash":
        return 0, 0, width, height
    scale = min(width / out_width, height / out_height)
    left, top = (width - scale * out_width) / 2, (height - scale * out_height) / 2
    return left, top, width - left, height - top
