"""From the bytes of a picture to its classification: the one step that every way in goes through."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.batching import Result
from app.decoding import Decoder
from app.geometry import DEFAULT_FIT, Fit
from app.imaging import Picture
from app.serving import Model


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """What `model` says of one picture; `decode_s` is the time from bytes to pixels, waiting included."""

    model: Model
    picture: Picture
    result: Result
    decode_s: float

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """float32 [K], in the order of the classes, summing to 1."""
        row: NDArray[np.float32] = self.result.prediction.probabilities[0]
        return row


async def classify(data: bytes, model: Model, decoder: Decoder, fit: Fit = DEFAULT_FIT) -> Classified:
    """Decodes one picture and lets the model look at it, together with whatever else waits for it.

    `fit` says what becomes of a picture whose shape is not the model's.

    Raises:
        PictureError: the bytes do not become a picture.
        OverloadedError: too much is waiting already, for a decoder or for the model.
        EngineError: the engine failed on this picture, or has stopped.
    """
    began = perf_counter()
    picture = await decoder.decode(data, model.input_size, fit)
    decode_s = perf_counter() - began
    return Classified(model, picture, await model.predict(picture.pixels[np.newaxis]), decode_s)
