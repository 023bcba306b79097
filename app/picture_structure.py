"""How many pieces a picture file is made of, counted before anything is decoded.

The header parsers are Python loops that hold the interpreter's lock, and a progressive JPEG costs a pass over
the whole picture for each of its scans. A few bytes per piece would buy minutes of a processor, so files with
far more pieces than any program writes are refused here. Damage is none of this module's business: whatever
does not parse is left for the decoder to refuse.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

import numpy as np

from app.errors import PictureTooComplexError

# A PNG of 20 MiB in chunks of 8 KiB, as libpng writes them, has 2,600; a GIF of that size 83,000 blocks.
MAX_PNG_CHUNKS: Final = 20_000
MAX_GIF_BLOCKS: Final = 100_000
# A profile of 16 MiB needs 255 segments, extended XMP some more.
MAX_JPEG_SEGMENTS: Final = 5_000
MAX_JPEG_FILLER_BYTES: Final = 65_536
MAX_PHOTOSHOP_RESOURCES: Final = 10_000
# Twenty passes over the largest picture; the usual progressive JPEG has ten scans.
MAX_JPEG_SCANNED_PIXELS: Final = 1_000_000_000
# A byte of 255 is looked at by itself; in the data of a photograph one byte in 256 is one.
_MAX_MARKER_CANDIDATES: Final = 1_000_000

# A PNG within these takes 0.7 ms at most, whatever its bytes are, and the usual one of 32 x 32 takes 0.16 ms;
# the way to another thread and back takes as much (AMD Zen 3, 2026-11-24).
QUICK_BYTES: Final = 16 * 1024
QUICK_PIXELS: Final = 64 * 64
QUICK_CHUNKS: Final = 16
# Chunks that cost nothing to read: neither compressed text nor a colour profile is among them.
_PLAIN_CHUNKS: Final = frozenset(
    {
        b"IHDR",
        b"PLTE",
        b"tRNS",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"sBIT",
        b"bKGD",
        b"pHYs",
        b"tIME",
        b"IDAT",
        b"IEND",
    }
)

_JPEG_MARKER: Final = re.compile(rb"\xff([\x01-\xfe])")
# Between scans: any marker but stuffed zeros, restarts and those that stand alone.
_JPEG_SEGMENT: Final = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")
_START_OF_SCAN: Final = 0xDA
_END_OF_IMAGE: Final = 0xD9
_STANDING_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})

# Signature, and length and name of the chunk that has to come first.
_PNG_HEADER: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"

_GIF_EXTENSION: Final = 0x21
_GIF_FRAME: Final = 0x2C
_GIF_END: Final = 0x3B


def check(form: str, data: bytes) -> None:
    """Refuses what would be slow to open; takes milliseconds whatever the bytes are.

    Raises:
        PictureTooComplexError: the header has more pieces than any program writes.
    """
    if form == "JPEG":
        header_bytes = _first_jpeg_scan(data)
        _bound("Photoshop resources", data.count(b"8BIM", 0, header_bytes), MAX_PHOTOSHOP_RESOURCES)
    elif form == "PNG":
        for count, _ in enumerate(_png_chunks(data), 1):
            _bound("chunks", count, MAX_PNG_CHUNKS)
    elif form == "GIF":
        is_animated_gif(data)


def is_quick(data: bytes) -> bool:
    """Whether it is certain, before anything is opened, that decoding takes less than a millisecond."""
    if len(data) > QUICK_BYTES or not data.startswith(_PNG_HEADER):
        return False
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    chunks = list(islice(_png_chunks(data), QUICK_CHUNKS + 1))
    return width * height <= QUICK_PIXELS and len(chunks) <= QUICK_CHUNKS and _PLAIN_CHUNKS.issuperset(chunks)


def check_jpeg_scans(data: bytes, pixels: int, max_scans: int) -> bool:
    """Whether a JPEG has several scans; refuses one that would cost too many passes over its `pixels`.

    Raises:
        PictureTooComplexError: it has more than `max_scans` scans, or too many for its size.
    """
    allowed = max(1, min(max_scans, MAX_JPEG_SCANNED_PIXELS // pixels))
    start = _first_jpeg_scan(data)
    rest = np.frombuffer(data, np.uint8)[start:]
    is_marker = rest[:-1] == 0xFF
    # Exact only when it has to be: what looks like a scan may lie in metadata or behind the picture.
    others = np.count_nonzero(is_marker & (rest[1:] == _START_OF_SCAN))
    if others < allowed:
        return bool(others) and next(islice(_jpeg_scans(data, start), 1, None), None) is not None
    _bound("bytes of 255", int(np.count_nonzero(is_marker)), _MAX_MARKER_CANDIDATES)
    for scans, _ in enumerate(_jpeg_scans(data, start), 1):
        _bound("scans", scans, allowed)
    return scans > 1


def is_animated_gif(data: bytes) -> bool:
    """Whether a second frame follows the first; stops looking there.

    Raises:
        PictureTooComplexError: there are more blocks up to there than any program writes.
    """
    frames = 0
    for blocks, kind in enumerate(_gif_blocks(data), 1):
        _bound("blocks", blocks, MAX_GIF_BLOCKS)
        frames += kind == _GIF_FRAME
        if frames > 1:
            return True
    return False


def webp_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) as the header says: libwebp reserves the memory for it when it opens a file."""
    kind, header = data[12:16], data[20:30]
    if len(header) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(header[4:7], "little") + 1, int.from_bytes(header[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(header[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = (int.from_bytes(header[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width, height


def _bound(what: str, count: int, most: int) -> None:
    if count > most:
        raise PictureTooComplexError(
            f"The picture has more than {most:,} {what}, which no camera or program writes. Open it in a "
            "viewer and save it again.",
            limit=most,
            received=count,
        )


def _first_jpeg_scan(data: bytes) -> int:
    """Where the data of the first scan begins; the end of the bytes if there is none."""
    position, filler = 2, 0
    for segments in range(1, MAX_JPEG_SEGMENTS + 2):
        _bound("segments", segments, MAX_JPEG_SEGMENTS)
        found = _JPEG_MARKER.search(data, position, position + MAX_JPEG_FILLER_BYTES + 2)
        if found is None:
            filler += len(data) - position
            break
        filler += found.start() - position
        _bound("bytes of filling between its segments", filler, MAX_JPEG_FILLER_BYTES)
        position = _behind(data, found)
        if found[1][0] == _START_OF_SCAN:
            return position
    _bound("bytes of filling between its segments", filler, MAX_JPEG_FILLER_BYTES)
    return len(data)


def _jpeg_scans(data: bytes, position: int) -> Iterator[int]:
    """Where each scan's data begins, up to the end of the (first) picture."""
    yield position
    segments = 0
    while found := _JPEG_SEGMENT.search(data, position):
        segments += 1
        _bound("segments", segments, MAX_JPEG_SEGMENTS)
        if found[1][0] == _END_OF_IMAGE:
            return
        position = _behind(data, found)
        if found[1][0] == _START_OF_SCAN:
            yield position


def _behind(data: bytes, marker: re.Match[bytes]) -> int:
    if marker[1][0] in _STANDING_ALONE:
        return marker.end()
    return marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")


def _png_chunks(data: bytes) -> Iterator[bytes]:
    position = 8
    while kind := data[position + 4 : position + 8]:
        yield kind
        position += 12 + int.from_bytes(data[position : position + 4], "big")


def _gif_blocks(data: bytes) -> Iterator[int]:
    """The first byte of each block, and of each part of a block's data."""
    position, end = 13 + _palette_bytes(data[10:11]), len(data)
    while position < end and (kind := data[position]) != _GIF_END:
        yield kind
        if kind == _GIF_FRAME:
            position += 11 + _palette_bytes(data[position + 9 : position + 10])
        elif kind == _GIF_EXTENSION:
            position += 2
        else:
            position += 1  # a stray byte, which decoders skip
            continue
        while position < end and (length := data[position]):
            yield 0
            position += 1 + length
        position += 1


def _palette_bytes(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0
