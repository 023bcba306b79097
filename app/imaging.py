"""From the bytes of a picture to the pixels that the network sees: the same way in serving and in evaluation.

Only the header is read until the picture is known to be of an allowed format and within the limits. Then it
is decoded (a large JPEG at a reduced scale, which libjpeg does while it decodes), put on white where it is
transparent, made RGB, squashed to the size asked for with an antialiased filter, and turned upright by its
EXIF orientation. A picture that has the size already keeps its pixels.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from app.errors import (
    BrokenPictureError,
    OverloadedError,
    PictureError,
    PictureTooLargeError,
    UnsupportedFormatError,
)

# Pillow asks each of these to recognise the bytes, and no other plug-in ever runs. A multi-picture JPEG is
# opened by the JPEG plug-in; naming MPO here would make Pillow raise KeyError.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", *(("AVIF",) if features.check("avif") else ()))
FILTER: Final = Image.Resampling.BICUBIC
PILLOW_MAX_PIXELS: Final = 178_956_970  # Pillow itself refuses more, whatever our own limit says

# A JPEG is decoded at 1/2, 1/4 or 1/8 as long as this many times the wanted size is left for the filter.
_DRAFT_FACTOR: Final = 4
_EXIF_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIGNATURES: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|BM.{4}\x00{4}|.{4}ftypavi[fs]", re.DOTALL
)
# Any marker but fill bytes, stuffed zeros, restarts and those that stand alone.
_JPEG_MARKER: Final = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")
_END_OF_IMAGE: Final = 0xD9
_START_OF_SCAN: Final = 0xDA

# Pillow warns with text taken from the file; what matters of it is refused here with an error of our own.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a header may announce. `max_scans` bounds the passes of a progressive JPEG; cameras write ten."""

    max_pixels: int = 50_000_000
    max_side: int = 20_000
    max_scans: int = 100


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture.

    `pixels` is uint8 [height, width, 3], RGB, in the size that was asked for. `width` and `height` are the
    original's as a viewer shows it, upright. `notes` are words on what was done to it: "rotated",
    "transparent", "enlarged".
    """

    pixels: NDArray[np.uint8]
    format: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


def decode(data: bytes, *, size: tuple[int, int] = (32, 32), limits: Limits = DEFAULT_LIMITS) -> Picture:
    """The picture in `data`, in RGB and in `size` = (height, width).

    Raises:
        UnsupportedFormatError: the bytes are of none of `FORMATS`.
        PictureTooLargeError: more pixels or a longer side than the limits allow; nothing was decoded.
        BrokenPictureError: the bytes begin like a picture but do not make one.
        OverloadedError: there is not enough memory to decode it.
    """
    with _own_errors(data, limits), Image.open(BytesIO(data), formats=FORMATS) as image:
        _check_header(image, data, limits)
        stored = image.size
        image.draft(None, (max(size) * _DRAFT_FACTOR,) * 2)
        image.load()
        orientation = _orientation(image)
        turned = orientation >= 5
        small = _upright(_resized(_rgb(image), size[::-1] if turned else size), orientation)
        width, height = stored[::-1] if turned else stored
        return Picture(
            pixels=np.asarray(small),
            format="JPEG" if image.format == "MPO" else str(image.format),
            width=width,
            height=height,
            notes=tuple(_notes(image, orientation, enlarged=width < size[1] or height < size[0])),
        )


@contextmanager
def _own_errors(data: bytes, limits: Limits) -> Iterator[None]:
    """Turns what Pillow raises into errors of ours: its own text can hold addresses and bytes of the file."""
    try:
        yield
    except (PictureError, OverloadedError):
        raise
    except MemoryError as error:
        raise OverloadedError("There is not enough memory to decode this picture now.") from error
    except Image.DecompressionBombError as error:
        raise PictureTooLargeError(
            f"The picture has more than {PILLOW_MAX_PIXELS:,} pixels; at most {limits.max_pixels:,} are "
            "accepted."
        ) from error
    except Exception as error:
        if _SIGNATURES.match(data):
            raise BrokenPictureError(
                "The picture is broken: its data ends early or does not decode. Open it in a viewer, save it "
                "again and send the new file."
            ) from error
        raise UnsupportedFormatError(
            f"The {len(data):,} bytes are not a picture in a format that is decoded here: "
            f"{', '.join(FORMATS)}."
        ) from error


def _check_header(image: Image.Image, data: bytes, limits: Limits) -> None:
    width, height = image.size
    if max(width, height) > limits.max_side:
        raise PictureTooLargeError(
            f"The picture is {width} x {height} pixels; a side may have at most {limits.max_side:,}."
        )
    if width * height > limits.max_pixels:
        raise PictureTooLargeError(
            f"The picture is {width} x {height}, {width * height:,} pixels; at most {limits.max_pixels:,} "
            "are accepted."
        )
    if image.format in ("JPEG", "MPO") and _has_more_scans(data, limits.max_scans):
        raise BrokenPictureError(
            f"The JPEG has more than {limits.max_scans} scans, which no camera writes. Save it again as a "
            "normal JPEG."
        )


def _has_more_scans(data: bytes, most: int) -> bool:
    """Counts start-of-scan markers outside metadata, up to the end of the (first) picture.

    Each scan of a progressive JPEG costs a pass over the whole picture, in 30 bytes of file if it likes.
    """
    scans, position = 0, 2
    while found := _JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        if scans > most:
            return True
        position += int.from_bytes(data[position : position + 2], "big")
    return False


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. Garbage in a metadata chunk must not cost a good picture its answer."""
    with suppress(Exception):
        orientation = image.getexif().get(_EXIF_ORIENTATION)
        if orientation in _UPRIGHT:
            return int(orientation)
    return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255, which would turn most of the picture white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnsupportedFormatError(
            "Pictures with 32-bit grey levels are not decoded here: save it with 8 or 16 bits."
        )
    if image.has_transparency_data:
        opaque = Image.new("RGB", image.size, "white")
        rgba = image.convert("RGBA")
        opaque.paste(rgba, mask=rgba)  # unlike alpha_composite, this lets other threads run
        return opaque
    return image.convert("RGB")


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), FILTER)


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _notes(image: Image.Image, orientation: int, *, enlarged: bool) -> Iterator[str]:
    if orientation != 1:
        yield "rotated"
    if image.has_transparency_data:
        yield "transparent"
    if enlarged:
        yield "enlarged"
