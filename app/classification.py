"""From the bytes of a picture to its classification: the one step that every way in goes through."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.decoding import Decoder
from app.geometry import DEFAULT_FIT, Fit
from app.imaging import Picture
from app.lane import Result
from app.model import Model


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

    @property
    def ood_score(self) -> np.float32:
        """Larger for pictures that are less like those of training; its unit is the model's own."""
        score: np.float32 = self.result.prediction.ood_score[0]
        return score

    @property
    def in_distribution(self) -> bool | None:
        """Whether the picture is like those of training; None if the version was not calibrated for it."""
        threshold = self.model.manifest.calibration.ood_threshold
        return None if threshold is None else bool(self.ood_score <= threshold)

    def confidence_set(self, coverage: float) -> list[int] | None:
        """The smallest set of class ids that holds the truth with this coverage, the most probable first.

        Every class from the calibrated threshold up is in it, and the most probable one in any case (Sadinle,
        Lei & Wasserman 2019, https://arxiv.org/abs/1609.00451). None if the version has no such threshold.
        """
        threshold = self.model.manifest.calibration.threshold(coverage)
        if threshold is None:
            return None
        probabilities = self.probabilities.tolist()
        probable = [index for index, probability in enumerate(probabilities) if probability >= threshold]
        if not probable:
            return [probabilities.index(max(probabilities))]
        return sorted(probable, key=lambda index: -probabilities[index])


async def classify(
    data: bytes, model: Model, decoder: Decoder, fit: Fit = DEFAULT_FIT, *, reserved: bool = False
) -> Classified:
    """Decodes one picture and lets the model look at it, together with whatever else waits for it.

    `fit` says what becomes of a picture whose shape is not the model's. One whose place is `reserved` is
    taken however many wait.

    Raises:
        PictureError: the bytes do not become a picture.
        OverloadedError: too much is waiting already, for a decoder or for the model.
        NotReadyError: the engine has stopped.
        EngineError: it failed on this picture, or stopped before it answered.
    """
    began = perf_counter()
    picture = await decoder.decode(data, model.input_size, fit, reserved=reserved)
    decode_s = perf_counter() - began
    result = await model.predict(picture.pixels[np.newaxis], reserved=reserved)
    return Classified(model, picture, result, decode_s)
