"""From the bytes of a picture to the pixels that the network sees: the same way in serving and in evaluation.

Only the header is read until the picture is known to be of an allowed format and within the limits. Then it
is decoded (a large JPEG at a reduced scale, which libjpeg does while it decodes), put on white where it is
transparent, resized with an antialiased filter, made sRGB, and turned upright by its EXIF orientation. A
picture that has the size already keeps its pixels.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from math import prod
from operator import mul
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

from app import colour, geometry, picture_structure, plain_png
from app.errors import (
    BrokenPictureError,
    OverloadedError,
    PictureError,
    PictureTooLargeError,
    UnsupportedFormatError,
)
from app.geometry import DEFAULT_FIT, FILTER, Fit
from app.picture_formats import FORMATS, recognise
from app.pixel_budget import PixelBudget

__all__ = ["FILTER", "FORMATS", "Limits", "Picture", "decode"]

PILLOW_MAX_PIXELS: Final = 178_956_970  # Pillow itself refuses more, whatever our own limit says
# Pillow's decoder for these is a loop in Python that stops every other thread, some 0.2 us a pixel.
MAX_RUN_LENGTH_BMP_PIXELS: Final = 1_000_000
# Decoded at the same time, at up to 16 bytes each: 0.9 GB.
HELD_PIXELS: Final = 56_000_000
# Standard deviation of the levels under which a picture shows nothing.
BLANK_LEVELS: Final = 3.0
_FEW: Final = 4  # of a row and of a column

# A JPEG is decoded at 1/2, 1/4 or 1/8 as long as this many times the wanted size is left for the filter.
_DRAFT_FACTOR: Final = 4
_EXIF_ORIENTATION: Final = 0x0112
_RUN_LENGTH: Final = (1, 2)
_BUDGET: Final = PixelBudget(HELD_PIXELS)

# Pillow warns with text taken from the file; what matters of it is refused here with an error of our own.
warnings.filterwarnings("ignore", module=r"PIL\.")
PngImagePlugin.MAX_TEXT_MEMORY = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What is accepted: formats by Pillow's names, and what a header may announce.

    `max_scans` bounds the passes of a progressive JPEG; cameras write ten.
    """

    max_pixels: int = 50_000_000
    max_side: int = 20_000
    max_scans: int = 100
    formats: tuple[str, ...] = FORMATS


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture.

    `pixels` is uint8 [height, width, 3], RGB, in the size that was asked for. `width` and `height` are the
    original's as a viewer shows it, upright. `notes` are words on what is special about it: "animated" (the
    first frame was used), "enlarged", "extreme_shape", "nearly_blank", "rotated", "transparent".
    """

    pixels: NDArray[np.uint8]
    format: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


def decode(
    data: bytes,
    *,
    size: tuple[int, int] = (32, 32),
    fit: Fit = DEFAULT_FIT,
    limits: Limits = DEFAULT_LIMITS,
) -> Picture:
    """The picture in `data`, in RGB and in `size` = (height, width); `fit` says what becomes of its shape.

    Raises:
        UnsupportedFormatError: the bytes are of none of the formats, or of a kind with no defined colours.
        PictureTooLargeError: more pixels or a longer side than the limits allow; nothing was decoded.
        PictureTooComplexError: more scans or other pieces than any program writes; nothing was decoded.
        BrokenPictureError: the bytes begin like a picture but do not make one.
        OverloadedError: there is not enough memory to decode it.
    """
    form = recognise(data)
    if form is None or form not in limits.formats:
        raise UnsupportedFormatError(
            f"The {len(data):,} bytes are {_described(form)}. Send one of {', '.join(limits.formats)}."
        )
    if form == "PNG" and (plain := plain_png.pixels(data)) is not None and plain.shape[:2] == size:
        return _plain(plain, limits)
    with _own_errors(limits):
        _check_unopened(form, data, limits)
        with Image.open(BytesIO(data), formats=[form]) as image:
            has_several_scans = _check_header(image, form, data, limits)
            stored = image.size
            image.draft(None, (max(size) * _DRAFT_FACTOR,) * 2)
            # Several scans are put together in the size in which they are stored.
            with _BUDGET.held(prod(stored if has_several_scans else image.size)):
                return _picture(image, form, data, stored, size, fit)


def _plain(pixels: NDArray[np.uint8], limits: Limits) -> Picture:
    height, width, _ = pixels.shape
    _check_size((width, height), limits)
    notes = {"extreme_shape": geometry.is_extreme(width, height), "nearly_blank": _is_blank(pixels)}
    return Picture(pixels, "PNG", width, height, _true(notes))


def _picture(
    image: ImageFile.ImageFile,
    form: str,
    data: bytes,
    stored: tuple[int, int],
    size: tuple[int, int],
    fit: Fit,
) -> Picture:
    profile = image.info.get("icc_profile")
    image.decodermaxblock = len(data)  # all of it is here; in parts of 64 KiB a large JPEG takes 7 % longer
    image.load()
    orientation = _orientation(image)
    turned = orientation >= 5
    small = geometry.resized(colour.opaque(image), size[::-1] if turned else size, fit)
    pixels = np.asarray(geometry.upright(colour.in_srgb(small, profile), orientation))
    width, height = stored[::-1] if turned else stored
    notes = {
        "animated": _is_animated(image, form, data),
        "enlarged": any(map(int.__lt__, map(round, geometry.kept((width, height), size, fit)), size[::-1])),
        "extreme_shape": geometry.is_extreme(width, height),
        "nearly_blank": _is_blank(pixels),
        "rotated": orientation != 1,
        "transparent": colour.has_transparency(image),
    }
    return Picture(pixels, form, width, height, _true(notes))


def _true(notes: Mapping[str, bool]) -> tuple[str, ...]:
    return tuple(note for note, true in notes.items() if true)


def _is_blank(pixels: NDArray[np.uint8]) -> bool:
    """Whether each channel has nearly one level; of most small pictures a few pixels tell that it has not."""
    height, width, _ = pixels.shape
    few = pixels[:: -(-height // _FEW), :: -(-width // _FEW), 1].ravel().tolist()
    # All pixels together are no nearer to their mean than these are to theirs.
    if sum(map(mul, few, few)) - sum(few) ** 2 / len(few) >= height * width * BLANK_LEVELS**2:
        return False
    return all(_variance(pixels[..., channel]) < BLANK_LEVELS**2 for channel in range(3))


def _variance(levels: NDArray[np.uint8]) -> float:
    """Of uint8 [H, W]; without the copies that make `var` as slow as decoding a small picture."""
    numbers = levels.ravel().astype(np.float64)
    return float(numbers @ numbers / numbers.size - (numbers.sum() / numbers.size) ** 2)


def _described(form: str | None) -> str:
    return "not a picture in a format that is decoded here" if form is None else f"{form}, which is off here"


@contextmanager
def _own_errors(limits: Limits) -> Iterator[None]:
    """Turns what Pillow raises into errors of ours: its own text can hold addresses and bytes of the file."""
    try:
        yield
    except (PictureError, OverloadedError):
        raise
    except MemoryError as error:
        raise OverloadedError(
            "There is not enough memory to decode this picture now.", reason="memory"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLargeError(
            f"The picture has more than {PILLOW_MAX_PIXELS:,} pixels; at most {limits.max_pixels:,} are "
            "accepted.",
            limit=limits.max_pixels,
        ) from error
    except Exception as error:
        raise BrokenPictureError(
            "The picture is broken: its data ends early or does not decode. Open it in a viewer, save it "
            "again and send the new file."
        ) from error


def _check_unopened(form: str, data: bytes, limits: Limits) -> None:
    """What has to be known before even the header parser may run."""
    picture_structure.check(form, data)
    if form == "WEBP" and (announced := picture_structure.webp_size(data)):
        _check_size(announced, limits)


def _check_header(image: Image.Image, form: str, data: bytes, limits: Limits) -> bool:
    """Whether it comes in several scans."""
    _check_size(image.size, limits)
    if form == "JPEG":
        return picture_structure.check_jpeg_scans(data, prod(image.size), limits.max_scans)
    if form == "BMP" and image.info.get("compression") in _RUN_LENGTH:
        _check_pixels(image.size, min(limits.max_pixels, MAX_RUN_LENGTH_BMP_PIXELS), "in a run-length BMP ")
    return False


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    if min(size) < 1:
        raise BrokenPictureError(f"The picture is {size[0]} x {size[1]} pixels, so there is nothing in it.")
    if max(size) > limits.max_side:
        raise PictureTooLargeError(
            f"The picture is {size[0]} x {size[1]} pixels; a side may have at most {limits.max_side:,}.",
            limit=limits.max_side,
            received=max(size),
        )
    _check_pixels(size, limits.max_pixels)


def _check_pixels(size: tuple[int, int], most: int, where: str = "") -> None:
    width, height = size
    if width * height > most:
        raise PictureTooLargeError(
            f"The picture is {width} x {height}, {width * height:,} pixels; at most {most:,} {where}are "
            "accepted.",
            limit=most,
            received=width * height,
        )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. Garbage in a metadata chunk must not cost a good picture its answer."""
    if not image.info:
        return 1  # nothing but pixels: asking would only cost time
    with suppress(Exception):
        orientation = image.getexif().get(_EXIF_ORIENTATION)
        if isinstance(orientation, int) and 1 <= orientation <= 8:
            return orientation
    return 1


def _is_animated(image: Image.Image, form: str, data: bytes) -> bool:
    """Pillow would walk through all frames of a GIF to tell; the others say it in their header."""
    if form == "GIF":
        return picture_structure.is_animated_gif(data)
    return form in ("PNG", "WEBP", "AVIF") and bool(getattr(image, "is_animated", False))
