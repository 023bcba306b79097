"""The pictures of a request in one of the other protocols, as pixels or as files, and the answer to them."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.api.admission import Gate
from app.api.timing import server_timing
from app.decoding import Decoder
from app.engines import Prediction
from app.errors import PictureError, ProtocolError
from app.geometry import DEFAULT_FIT, Fit
from app.lane import Result
from app.metrics import Metrics
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


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What the model said at `answered_at`, by the clock of `perf_counter`; `decode_s` came before it."""

    result: Result
    decode_s: float
    answered_at: float

    @property
    def prediction(self) -> Prediction:
        return self.result.prediction

    def timing(self, metrics: Metrics) -> dict[str, str]:
        """The header that says where its time went, up to now; what wrote the answer counts as encoding."""
        encode_s = perf_counter() - self.answered_at
        metrics.took("encode", encode_s)
        stages = {"decode": self.decode_s, "queue": self.result.queued_s, "infer": self.result.infer_s}
        return server_timing(**stages, encode=encode_s)


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
) -> Answered:
    """What the model says of pixels, uint8 [N, H, W, 3], or of N files.

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
        began = perf_counter()
        if isinstance(pictures, Encoded):
            pictures = await _decoded(pictures, decoder, model.input_size, fit)
        decoded = perf_counter()
        places.take(number)
        result = await model.predict(pictures, reserved=True)
        return Answered(result, decoded - began, perf_counter())


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
