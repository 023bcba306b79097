"""The pictures of a request in one of the other protocols, as pixels or as files, and the answer to them."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.api.admission import Gate
from app.decoding import Decoder
from app.engines import Prediction
from app.errors import PictureError, ProtocolError
from app.geometry import DEFAULT_FIT, Fit
from app.model import Model

PIXELS: Final = "images"
ENCODED: Final = "image_bytes"
PROBABILITIES: Final = "probabilities"
SCORE: Final = "ood_score"

_AT_ONCE: Final = 8  # one request must not fill the decoder's queue


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Picture files; `complaint` says what is wrong with one of them, from its `index` and an `error`."""

    files: Sequence[bytes]
    complaint: str


Pictures = NDArray[np.uint8] | Encoded


def count(pictures: Pictures) -> int:
    return len(pictures.files) if isinstance(pictures, Encoded) else len(pictures)


async def answer(
    pictures: Pictures,
    model: Model,
    decoder: Decoder,
    gate: Gate,
    fit: Fit = DEFAULT_FIT,
    *,
    allowed_s: float = inf,
) -> Prediction:
    """The prediction for pixels, uint8 [N, H, W, 3], or for N files.

    `fit` says what becomes of files whose shape is not the model's, and `allowed_s` how long it may take.

    Raises:
        ProtocolError: no picture, more than may wait, or one that does not decode.
        OverloadedError: no room for them now.
        EngineError: the engine failed.
    """
    number = count(pictures)
    if not 1 <= number <= gate.most_pictures:
        raise ProtocolError(f"The request has {number} pictures; 1 to {gate.most_pictures} are taken.")
    with gate.reserve(number, model, decoder, allowed_s) as places:
        if isinstance(pictures, Encoded):
            pictures = await _decoded(pictures, decoder, model.input_size, fit)
        places.take(number)
        return (await model.predict(pictures, reserved=True)).prediction


async def _decoded(pictures: Encoded, decoder: Decoder, size: tuple[int, int], fit: Fit) -> NDArray[np.uint8]:
    decoded = np.empty((len(pictures.files), *size, 3), dtype=np.uint8)
    for start in range(0, len(decoded), _AT_ONCE):
        files = pictures.files[start : start + _AT_ONCE]
        found = await asyncio.gather(
            *(decoder.decode(file, size, fit, reserved=True) for file in files), return_exceptions=True
        )
        for index, picture in enumerate(found, start):
            if isinstance(picture, PictureError):
                raise ProtocolError(pictures.complaint.format(index=index, error=picture)) from picture
            if isinstance(picture, BaseException):
                raise picture
            decoded[index] = picture.pixels
    return decoded


def from_base64(text: str) -> bytes | None:
    """The bytes, or None if it is not base64. Line breaks and absent padding are common and do no harm."""
    try:
        packed = text.encode("ascii").translate(None, b" \t\r\n")
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except ValueError:
        return None
