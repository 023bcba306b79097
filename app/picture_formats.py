"""Which format a picture is in: found from its first bytes, never from a name or a content type."""

import re
from collections.abc import Mapping
from typing import Final

from PIL import AvifImagePlugin, features

# Threads are ours to give out: each picture is decoded in one.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _has_heif() -> bool:
    """Whether the optional package is there; telling Pillow about it is what makes it used."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    return True


# A multi-picture JPEG is opened by the JPEG plug-in; naming MPO would make Pillow raise KeyError.
FORMATS: Final = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    *(("AVIF",) if features.check("avif") else ()),
    *(("HEIF",) if _has_heif() else ()),
)
# Left out unless it is asked for: it is a family of formats, and most files that crashed decoders are of it.
TIFF: Final = "TIFF"

_SIGNATURES: Final[Mapping[str, re.Pattern[bytes]]] = {
    form: re.compile(pattern, re.DOTALL)
    for form, pattern in {
        "JPEG": rb"\xff\xd8\xff",
        "PNG": rb"\x89PNG\r\n\x1a\n",
        "WEBP": rb"RIFF.{4}WEBP",
        "GIF": rb"GIF8[79]a",
        "BMP": rb"BM.{4}\x00{4}",
        "TIFF": rb"II[*+]\x00|MM\x00[*+]",
    }.items()
}
_BRANDS: Final[Mapping[str, frozenset[bytes]]] = {
    "AVIF": frozenset({b"avif", b"avis"}),
    "HEIF": frozenset(
        {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
    ),
}
_MOST_BRANDS: Final = 64


def recognise(data: bytes) -> str | None:
    """Pillow's name of the format that the bytes begin like, whether it is decoded here or not."""
    for form, signature in _SIGNATURES.items():
        if signature.match(data):
            return form
    brands = _brands(data)
    return next((form for form, known in _BRANDS.items() if brands & known), None)


def _brands(data: bytes) -> set[bytes]:
    """What a file of boxes says that it is compatible with: AVIF and HEIC share the container."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), len(data), 4 * _MOST_BRANDS)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
