"""Pictures of every kind that people and attackers send, made from seeds: nothing binary is kept.

`GOOD` are files with what they must look like; `REFUSED` are files with the code they must be refused with;
`mutated` damages any of them. Names are what docs/api.md calls the samples in its tables.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image, ImageCms

from app.imaging import FORMATS

Make = Callable[[], bytes]

ORIENTATION: Final = 0x0112
WIDTH, HEIGHT = 120, 90


@dataclass(frozen=True, slots=True)
class Good:
    """A file that must be taken; its pixels are those of `looks`, within `levels`, and `notes` go with it."""

    make: Make
    looks: Image.Image
    levels: int
    notes: frozenset[str] = frozenset()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


@cache
def scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Smooth, with no symmetry that could hide a wrong turn."""
    return noise(6, 5, seed=3).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


# Parts of files


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *, interlaced: bool = False) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return data[:33] + png_chunk(kind, content) + data[33:]


def png_rows(levels: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    """Unfiltered rows of big-endian levels [height, width, channels]."""
    rows = levels.astype(levels.dtype.newbyteorder(">")).reshape(len(levels), -1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def interlaced_png(image: Image.Image) -> bytes:
    """Pillow reads Adam7 but does not write it."""
    levels = np.asarray(image)
    starts = (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)
    passes = (levels[top::down, left::across] for top, left, down, across in starts)
    rows = b"".join(png_rows(each) for each in passes if each.size)
    return png(image.width, image.height, 8, 2, rows, interlaced=True)


def deep_png(image: Image.Image) -> bytes:
    return png(image.width, image.height, 16, 2, png_rows(np.asarray(image).astype(np.uint16) * 257))


def run_length_bmp(width: int, height: int, runs: bytes) -> bytes:
    palette = b"".join(bytes((level, level, 255, 0)) for level in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs


def lossless_webp(width: int, height: int) -> bytes:
    """34 bytes, whatever size they announce."""
    size = (width - 1) | (height - 1) << 14
    body = b"VP8L" + struct.pack("<I", 14) + b"\x2f" + struct.pack("<I", size) + bytes(9)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def extended_webp(width: int, height: int) -> bytes:
    flags = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + flags + encoded(scene(16, 16), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def gif(width: int, height: int, blocks: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(3) + b"\xff" * 3 + blocks


def segments(jpeg: bytes, *more: tuple[int, bytes]) -> bytes:
    """A JPEG with more segments in front of its own."""
    packed = (bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data for marker, data in more)
    return jpeg[:2] + b"".join(packed) + jpeg[2:]


def scan_bomb(repeats: int, size: int = 64) -> bytes:
    """Repeats the last scan of a progressive JPEG: thirty bytes of file for a pass over the whole picture."""
    progressive = encoded(Image.new("L", (size, size)), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    return progressive[:-2] + progressive[last:-2] * repeats + b"\xff\xd9"


def other_colours() -> tuple[Image.Image, bytes]:
    """The scene as numbers of a colour space that is not sRGB, and the profile that says which."""
    # The primaries are swapped round, as no real device has them: ignoring this profile cannot go unnoticed.
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    for at in range(132, 132 + 12 * count, 12):
        name = bytes(profile[at : at + 4])
        profile[at : at + 4] = {b"rXYZ": b"gXYZ", b"gXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    red, green, blue = scene().split()
    return Image.merge("RGB", (blue, red, green)), bytes(profile)


def turned(orientation: int, form: str = "JPEG") -> bytes:
    """The scene as a camera stores it that was held another way."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = scene().transpose(back[orientation]) if orientation in back else scene()
    return encoded(stored, form, exif=exif, quality=95)


def _with_alpha(mode: str) -> Image.Image:
    """Half of it can be seen through, and hides a colour."""
    image = scene().convert(mode.removesuffix("A")).convert(mode)
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, image.width // 2, image.height))
    image.putalpha(alpha)
    return image


def _on_white(mode: str) -> Image.Image:
    looks = scene().convert("L" if mode == "LA" else "RGB").convert("RGB")
    looks.paste("white", (0, 0, looks.width // 2, looks.height))
    return looks


def _frames(form: str, **options: Any) -> bytes:
    return encoded(
        scene(), form, save_all=True, append_images=[noise(WIDTH, HEIGHT, seed) for seed in (1, 2)], **options
    )


def _deep_grey() -> bytes:
    levels = np.asarray(scene().convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(levels), "PNG")


def _coded_bmp() -> tuple[bytes, Image.Image]:
    """Rows of one colour, from the bottom, as runs of at most 255 pixels."""
    levels = np.linspace(0, 255, 40).astype(np.uint8)
    runs = b"".join(bytes((50, level, 0, 0)) for level in levels[::-1]) + b"\0\1"
    looks = np.repeat(np.stack([np.full(40, 255, np.uint8), levels, levels], -1)[:, None], 50, axis=1)
    return run_length_bmp(50, 40, runs), Image.fromarray(looks)


def _as(mode: str) -> Image.Image:
    return scene().convert(mode).convert("RGB")


def _good() -> Iterator[tuple[str, Good]]:
    grey, rgb = _as("L"), scene()
    see_through = frozenset({"transparent"})
    animated = frozenset({"animated"})
    colours, profile = other_colours()
    coded, coded_looks = _coded_bmp()
    for mode, looks, levels in (("L", grey, 8), ("RGB", rgb, 8), ("CMYK", _as("CMYK"), 12)):
        yield (
            f"jpeg-{mode.lower()}",
            Good(partial(encoded, scene().convert(mode), "JPEG", quality=95), looks, levels),
        )
    yield "jpeg-progressive", Good(lambda: encoded(rgb, "JPEG", quality=95, progressive=True), rgb, 8)
    for mode in ("1", "L", "P", "RGB"):
        yield (
            f"png-{mode.lower()}",
            Good(partial(encoded, scene().convert(mode), "PNG"), _as(mode), 1),
        )
        if mode != "1":
            yield (
                f"bmp-{mode.lower()}",
                Good(partial(encoded, scene().convert(mode), "BMP"), _as(mode), 1),
            )
    for mode in ("LA", "RGBA"):
        yield (
            f"png-{mode.lower()}",
            Good(partial(encoded, _with_alpha(mode), "PNG"), _on_white(mode), 1, see_through),
        )
    yield "png-16-bit-grey", Good(_deep_grey, grey, 1)
    yield "png-16-bit-rgb", Good(lambda: deep_png(rgb), rgb, 1)
    yield "png-interlaced", Good(lambda: interlaced_png(rgb), rgb, 1)
    yield "png-colour-profile", Good(lambda: encoded(colours, "PNG", icc_profile=profile), rgb, 6)
    yield "png-broken-profile", Good(lambda: encoded(rgb, "PNG", icc_profile=b"x" * 5000), rgb, 1)
    yield "png-garbage-exif", Good(lambda: with_chunk(encoded(rgb, "PNG"), b"eXIf", b"garbage"), rgb, 1)
    yield "apng", Good(lambda: _frames("PNG"), rgb, 1, animated)
    yield "gif", Good(lambda: encoded(scene().convert("P"), "GIF"), _as("P"), 1)
    yield "gif-animated", Good(lambda: _frames("GIF"), rgb, 48, animated)
    yield "webp", Good(lambda: encoded(rgb, "WEBP", quality=95), rgb, 8)
    yield "webp-lossless", Good(lambda: encoded(rgb, "WEBP", lossless=True), rgb, 1)
    yield (
        "webp-rgba",
        Good(lambda: encoded(_with_alpha("RGBA"), "WEBP", lossless=True), _on_white("RGBA"), 2, see_through),
    )
    yield "webp-animated", Good(lambda: _frames("WEBP", lossless=True), rgb, 1, animated)
    yield "bmp-run-length", Good(lambda: coded, coded_looks, 1)
    for form in sorted({"AVIF", "HEIF"} & set(FORMATS)):
        yield form.lower(), Good(partial(encoded, rgb, form, quality=95), rgb, 8)
        yield (
            f"{form.lower()}-rgba",
            Good(
                partial(encoded, _with_alpha("RGBA"), form, quality=95),
                _on_white("RGBA"),
                16,
                see_through,
            ),
        )
    for orientation in range(2, 9):
        yield (
            f"jpeg-orientation-{orientation}",
            Good(partial(turned, orientation), rgb, 8, frozenset({"rotated"})),
        )
    yield "polyglot", Good(lambda: encoded(rgb, "PNG") + b"PK\3\4<html><script>" * 1000, rgb, 1)
    yield (
        "tiny",
        Good(
            lambda: encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
            Image.new("RGB", (1, 1), "red"),
            0,
            frozenset({"enlarged", "nearly_blank"}),
        ),
    )
    wide = scene().resize((1200, 100))
    yield "wide", Good(lambda: encoded(wide, "PNG"), wide, 1, frozenset({"extreme_shape"}))


GOOD: Final[dict[str, Good]] = dict(_good())


def _stretched() -> bytes:
    return encoded(Image.new("L", (60_000, 1)), "JPEG")


def _tiny_blocks() -> bytes:
    return gif(9, 9, b"!\xfe" + b"\1a" * 110_000 + b"\0;")


def _cut(name: str, share: float = 0.5) -> Make:
    return lambda: (data := GOOD[name].make())[: int(share * len(data))]


REFUSED: Final[dict[str, tuple[Make, str]]] = {
    "text": (lambda: b"hello", "unsupported_format"),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
    "pdf": (lambda: b"%PDF-1.7\n", "unsupported_format"),
    "eps": (lambda: encoded(scene(), "EPS"), "unsupported_format"),
    "tiff": (lambda: encoded(scene(), "TIFF"), "unsupported_format"),
    "ico": (lambda: encoded(scene(), "ICO"), "unsupported_format"),
    "jpeg-2000": (lambda: encoded(scene(), "JPEG2000"), "unsupported_format"),
    "zeros": (lambda: bytes(1000), "unsupported_format"),
    "jpeg-cut": (_cut("jpeg-rgb"), "invalid_image"),
    "png-cut": (_cut("png-rgb"), "invalid_image"),
    "gif-cut": (_cut("gif"), "invalid_image"),
    "webp-cut": (_cut("webp"), "invalid_image"),
    "bmp-cut": (_cut("bmp-rgb"), "invalid_image"),
    "png-header-only": (lambda: b"\x89PNG\r\n\x1a\n", "invalid_image"),
    "png-zero-size": (lambda: png(0, 0, 8, 2, b""), "invalid_image"),
    "gif-zero-size": (lambda: gif(0, 0, b",\0\0\0\0\0\0\0\0\0\2\1\4\0;"), "invalid_image"),
    "png-text-bomb": (
        lambda: with_chunk(encoded(scene(), "PNG"), b"zTXt", b"a\0\0" + zlib.compress(bytes(5_000_000))),
        "invalid_image",
    ),
    "png-profile-bomb": (
        lambda: with_chunk(encoded(scene(), "PNG"), b"iCCP", b"a\0\0" + zlib.compress(bytes(5_000_000))),
        "invalid_image",
    ),
    "png-bomb": (lambda: png(30_000, 30_000, 1, 0, bytes(9)), "image_too_large"),
    "png-51-megapixels": (lambda: png(10_000, 5_100, 1, 0, bytes(9)), "image_too_large"),
    "png-too-wide": (lambda: png(20_001, 1, 1, 0, bytes(9)), "image_too_large"),
    "png-too-tall": (lambda: png(1, 20_001, 1, 0, bytes(9)), "image_too_large"),
    "jpeg-too-wide": (_stretched, "image_too_large"),
    "gif-bomb": (lambda: gif(65_000, 65_000, b",\0\0\0\0\1\0\1\0\0\2\1\4\0;"), "image_too_large"),
    "gif-frame-bomb": (
        lambda: gif(1, 1, b"," + struct.pack("<HHHHB", 0, 0, 19_000, 19_000, 0) + b"\2\1\4\0;"),
        "image_too_large",
    ),
    "webp-bomb": (lambda: lossless_webp(16_383, 16_383), "image_too_large"),
    "webp-canvas-bomb": (lambda: extended_webp(16_000, 8_000), "image_too_large"),
    "bmp-bomb": (lambda: run_length_bmp(19_000, 19_000, b"\0\1"), "image_too_large"),
    "bmp-run-length-bomb": (lambda: run_length_bmp(5_000, 5_000, b"\0\0" * 5_000), "image_too_large"),
    "jpeg-scan-bomb": (lambda: scan_bomb(20_000), "image_too_complex"),
    "jpeg-scan-bomb-large": (lambda: scan_bomb(40, size=5_500), "image_too_complex"),
    "jpeg-hidden-scan-bomb": (
        lambda: scan_bomb(300).replace(b"\xff\xda", b"\xff\xff\xff\xfe\0\4\xff\xd9\xff\xda"),
        "image_too_complex",
    ),
    "jpeg-segments": (
        lambda: (data := encoded(scene(), "JPEG"))[:2] + b"\xff\xfe\0\2" * 6_000 + data[2:],
        "image_too_complex",
    ),
    "jpeg-filler": (
        lambda: (data := encoded(scene(), "JPEG"))[:2] + b"\xff" * 70_000 + data[2:],
        "image_too_complex",
    ),
    "jpeg-resources": (
        lambda: segments(
            encoded(scene(), "JPEG"),
            *[(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5_000)] * 3,
        ),
        "image_too_complex",
    ),
    "png-chunks": (
        lambda: (data := encoded(scene(), "PNG"))[:33] + png_chunk(b"abCd") * 21_000 + data[33:],
        "image_too_complex",
    ),
    "gif-blocks": (_tiny_blocks, "image_too_complex"),
    "gif-junk": (lambda: gif(9, 9, b"\1" * 110_000), "image_too_complex"),
}


# Refused before anybody looks for a picture in them.
UPLOADS: Final[dict[str, tuple[Make, str]]] = {
    "empty": (lambda: b"", "empty_file"),
    "too-many-bytes": (lambda: bytes(20 * 1024 * 1024 + 1), "body_too_large"),
}


@cache
def sample(name: str) -> bytes:
    """The file of that name."""
    return GOOD[name].make() if name in GOOD else (REFUSED | UPLOADS)[name][0]()


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """`data` with bits flipped, bytes replaced, pieces cut out, repeated or moved, or its end missing."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 6))):
        start, end = sorted(int(place) for place in random.integers(0, len(changed) + 1, 2))
        end = min(end, start + int(random.choice([1, 8, 200, 5_000])))
        match int(random.integers(6)):
            case 0 if end > start:
                changed[start] ^= 1 << int(random.integers(8))
            case 1:
                changed[start:end] = random.bytes(end - start)
            case 2:
                del changed[start:end]
            case 3:
                changed[start:start] = changed[start:end] * int(random.integers(1, 4))
            case 4:
                piece = changed[start:end]
                place = int(random.integers(0, len(changed) + 1))
                changed[place:place] = piece
            case _ if random.random() < 0.3:
                del changed[start:]
    return bytes(changed)
