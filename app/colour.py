"""From any colour mode to opaque sRGB."""

import struct
from contextlib import suppress
from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image, ImageCms

from app.errors import UnsupportedFormatError

SIXTEEN_BIT: Final = 65_535
# Profiles of printing processes have 0.5 to 2.5 MiB, those of cameras and screens less than 4 KiB.
MAX_PROFILE_BYTES: Final = 4 * 1024 * 1024
_MAX_PROFILE_TAGS: Final = 100
_TAG_TABLE: Final = 128
_SAME_LEVELS: Final = 2
_SRGB: Final = ImageCms.createProfile("sRGB")


def opaque(image: Image.Image) -> Image.Image:
    """`image` on white where it is transparent, in mode L, RGB or CMYK, 8 bits a channel.

    Raises:
        UnsupportedFormatError: its levels have no known range, or its colours no known meaning.
    """
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode in ("L", "RGB", "CMYK") and not image.has_transparency_data:
        return image
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr", "La", "RGBa"):
        raise UnsupportedFormatError(
            f"Pictures of the mode {image.mode} are not decoded here: save it as RGB or grey with 8 or 16 "
            "bits."
        )
    if not image.has_transparency_data:
        return image.convert("L" if image.mode == "1" else "RGB")
    with_alpha = image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    on_white = Image.new("L" if with_alpha.mode == "LA" else "RGB", image.size, "white")
    # Unlike alpha_composite, this lets other threads run.
    on_white.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return on_white


def has_transparency(image: Image.Image) -> bool:
    """Whether any of it can be seen through; an alpha channel alone says nothing."""
    if image.mode in ("LA", "RGBA"):
        lowest, _ = image.getchannel("A").getextrema()
        return bool(lowest < 255)  # type: ignore[operator]  # one channel has one pair
    return image.has_transparency_data


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An opaque image of mode L, RGB or CMYK as RGB, through its ICC `profile` where that is sound.

    A broken profile counts as none, and one that means sRGB changes no pixel.
    """
    plain = image if image.mode == "RGB" else image.convert("RGB")
    if profile is None or not _is_harmless(profile):
        return plain
    with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            _SRGB,
            outputMode="RGB",
            # Tables for a whole photograph would cost more than these few pixels.
            flags=ImageCms.Flags.NOOPTIMIZE,
        )
        if converted is not None and _levels_apart(plain, converted) > _SAME_LEVELS:
            return converted
    return plain


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Pillow's own conversion clips at 255, which would turn most of the picture white."""
    levels = np.asarray(image)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels = np.where(levels == transparent, SIXTEEN_BIT, levels)
    return Image.fromarray((levels >> 8).astype(np.uint8))


def _is_harmless(profile: bytes) -> bool:
    """Whether the size and the list of tags are what a sane profile has.

    A multi-process element ("mpet") may name the same table over and over, and each is read into memory.
    """
    if not _TAG_TABLE + 4 <= len(profile) <= MAX_PROFILE_BYTES:
        return False
    count = int.from_bytes(profile[_TAG_TABLE : _TAG_TABLE + 4], "big")
    entries = profile[_TAG_TABLE + 4 : _TAG_TABLE + 4 + 12 * count]
    if count > _MAX_PROFILE_TAGS or len(entries) < 12 * count:
        return False
    return all(profile[at : at + 4] != b"mpet" for _, at, _ in struct.iter_unpack(">4sII", entries))


def _levels_apart(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())
