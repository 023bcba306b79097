"""Generated pictures with the pixels and probabilities they must give, replayed at every start and reload.

One file, `golden.npz`, without pickled objects: the encoded files end to end in `encoded` (uint8 [bytes]),
cut by `lengths` (int64 [N]); `names` [N]; `lossless` (bool [N]); `pixels` (uint8 [N, H, W, 3]);
`probabilities` (float32 [N, K]) and `ood_score` (float32 [N]).
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from app import imaging
from app.engines import Engine, Prediction
from app.errors import GoldenError, PictureError

LOSSY_LEVELS: Final = 1
_TURNED_RIGHT: Final = 6
_FIT: Final = "squash"  # whatever is the default when they are replayed
# NumPy has Python parse the head of an array, which may fail in Python 3.11 where two threads do it at the
# same time (https://github.com/python/cpython/issues/106905): a sound version would lose its engine.
_ONE_AT_A_TIME: Final = threading.Lock()


class Encoded(NamedTuple):
    """A picture file; `lossless` if every correct decoder gives exactly the same pixels."""

    name: str
    data: bytes
    lossless: bool


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Picture files and, row by row, what became of them when they were recorded."""

    files: tuple[Encoded, ...]
    pixels: NDArray[np.uint8]
    prediction: Prediction


def pictures(seed: int = 0) -> Iterator[Encoded]:
    """Gradients, shapes and noise in formats and forms that a decoder can get wrong; the same for a seed."""
    random = np.random.default_rng(seed)
    gradient, shapes, noise = _gradient(120, 90), _shapes(random, 96, 96), _noise(random, 32, 32)
    turned = Image.Exif()
    turned[0x0112] = _TURNED_RIGHT
    alpha = _shapes(random, 70, 50).convert("RGBA")
    alpha.putalpha(_gradient(70, 50).getchannel(0))
    deep = Image.fromarray(np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16))

    yield Encoded("gradient.png", _encoded(gradient, "PNG"), lossless=True)
    yield Encoded("shapes.png", _encoded(shapes, "PNG"), lossless=True)
    yield Encoded("noise-32x32.png", _encoded(noise, "PNG"), lossless=True)
    yield Encoded("alpha.png", _encoded(alpha, "PNG"), lossless=True)
    yield Encoded("grey-16-bit.png", _encoded(deep, "PNG"), lossless=True)
    yield Encoded("palette.gif", _encoded(shapes.quantize(32), "GIF"), lossless=True)
    yield Encoded("shapes.jpg", _encoded(shapes, "JPEG", quality=90), lossless=False)
    yield Encoded(
        "turned.jpg", _encoded(_shapes(random, 90, 60), "JPEG", quality=90, exif=turned), lossless=False
    )
    yield Encoded("large.jpg", _encoded(gradient.resize((640, 480)), "JPEG", quality=80), lossless=False)


def record(engine: Engine, size: tuple[int, int] = (32, 32), seed: int = 0) -> Golden:
    """What imaging and this engine make of the generated pictures now, at `size` = (height, width)."""
    files = tuple(pictures(seed))
    pixels = np.stack([imaging.decode(file.data, size=size, fit=_FIT).pixels for file in files])
    return Golden(files, pixels, engine.predict(pixels))


def write(golden: Golden, path: Path) -> None:
    """Saves to the file at `path`, without any code in it."""
    np.savez_compressed(
        path,
        names=np.array([file.name for file in golden.files]),
        lossless=np.array([file.lossless for file in golden.files]),
        lengths=np.array([len(file.data) for file in golden.files], dtype=np.int64),
        encoded=np.frombuffer(b"".join(file.data for file in golden.files), dtype=np.uint8),
        pixels=golden.pixels,
        probabilities=golden.prediction.probabilities,
        ood_score=golden.prediction.ood_score,
    )


def read(path: Path) -> Golden:
    """What `write` saved.

    Raises:
        GoldenError: the file is missing or holds something else.
    """
    try:
        data = path.read_bytes()  # before, since a disk may hang
        with _ONE_AT_A_TIME, np.load(BytesIO(data), allow_pickle=False) as arrays:
            return Golden(
                tuple(_files(arrays)),
                arrays["pixels"],
                Prediction(arrays["probabilities"], arrays["ood_score"]),
            )
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        raise GoldenError(f"{path} does not hold golden pictures. Publish the version again.") from error


def replay(golden: Golden, engine: Engine, tolerance: float) -> Prediction:
    """Decodes and predicts every golden picture again, together and alone, compares, and gives the former.

    Pixels of lossless files must be equal, those of others within `LOSSY_LEVELS`; probabilities within
    `tolerance`, and the OOD score within `tolerance` times its own size where that is above 1.

    Raises:
        GoldenError: a picture came out differently; the message says which, by how much, and what is allowed.
    """
    pixels = np.stack([_decoded_again(golden, index) for index in range(len(golden.files))])
    together = engine.predict(pixels)
    _compare_all(golden, engine, together, tolerance)
    # An engine may treat a lone picture apart.
    alone = [engine.predict(pixels[index : index + 1]) for index in range(len(pixels))]
    _compare_all(golden, engine, Prediction.joined(alone), tolerance)
    return together


def _compare_all(golden: Golden, engine: Engine, prediction: Prediction, tolerance: float) -> None:
    if prediction.probabilities.shape != golden.prediction.probabilities.shape:
        raise GoldenError(
            f"The engine {engine.name} gives probabilities of shape {list(prediction.probabilities.shape)} "
            f"for the golden pictures where {list(golden.prediction.probabilities.shape)} was recorded."
        )
    expected, scale = golden.prediction, np.maximum(1, np.abs(golden.prediction.ood_score))
    off = np.abs(prediction.probabilities - expected.probabilities).max(axis=1)
    _compare(golden, engine, "probabilities", off, tolerance)
    _compare(
        golden, engine, "OOD score", np.abs(prediction.ood_score - expected.ood_score) / scale, tolerance
    )


def _decoded_again(golden: Golden, index: int) -> NDArray[np.uint8]:
    file, expected = golden.files[index], golden.pixels[index]
    try:
        pixels = imaging.decode(file.data, size=(expected.shape[0], expected.shape[1]), fit=_FIT).pixels
    except PictureError as error:
        raise GoldenError(f"The golden picture {file.name} no longer decodes: {error}") from error
    off = int(np.abs(pixels.astype(np.int16) - expected).max())
    allowed = 0 if file.lossless else LOSSY_LEVELS
    if off > allowed:
        raise GoldenError(
            f"The golden picture {file.name} decodes to other pixels than were recorded: off by up to {off} "
            f"levels where {allowed} is allowed. The installed Pillow decodes or resizes differently."
        )
    return pixels


def _compare(golden: Golden, engine: Engine, what: str, off: NDArray[np.float32], tolerance: float) -> None:
    worst = int(np.argmax(off))  # NaN counts as the largest
    if not off[worst] <= tolerance:
        raise GoldenError(
            f"The engine {engine.name} ({engine.precision}) gives other values ({what}) for the golden "
            f"picture {golden.files[worst].name} than were recorded: off by {off[worst]:.2g} where "
            f"{tolerance:.2g} is allowed."
        )


def _files(arrays: Any) -> Iterator[Encoded]:
    data, end = arrays["encoded"].tobytes(), 0
    for name, length, lossless in zip(arrays["names"], arrays["lengths"], arrays["lossless"], strict=True):
        start, end = end, end + int(length)
        yield Encoded(str(name), data[start:end], bool(lossless))


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _gradient(width: int, height: int) -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8))


def _noise(random: np.random.Generator, width: int, height: int) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def _shapes(random: np.random.Generator, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), "skyblue")
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        left, top = (int(random.integers(0, most)) for most in (width, height))
        box = (left, top, left + int(random.integers(8, width)), top + int(random.integers(8, height)))
        colour = tuple(int(level) for level in random.integers(0, 256, 3))
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)(box, fill=colour)
    return image
