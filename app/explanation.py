"""Why a picture got its label: asked of the model in its spare time, so that no prediction waits for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app import importance, overlay
from app.decoding import Decoder
from app.errors import OverloadedError
from app.geometry import Fit
from app.imaging import Picture
from app.importance import Importance, Masks
from app.model import Model

METHOD: Final = "random_blanking"
_SMOOTHING: Final = 0.2  # weight of the newest explanation in the average time


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What of a picture speaks for the class `class_id`, whose probability the model says is `probability`.

    `importance` is float32 [8, 8] over what the network saw, 0 to 1. `overlay` is a PNG file.
    """

    model: Model
    picture: Picture
    class_id: int
    probability: np.float32
    importance: NDArray[np.float32]
    overlay: bytes


class Explainer:
    """Lets a bounded number of explanations be worked on. Belongs to one event loop."""

    def __init__(self, decoder: Decoder, most: int) -> None:
        self._decoder = decoder
        self._most = most
        self._open = 0
        self._seconds = 0.0

    @property
    def waiting(self) -> int:
        """Explanations that are worked on."""
        return self._open

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place for one explanation, best from before its picture is read.

        Raises:
            OverloadedError: there is none.
        """
        if self._open >= self._most:
            raise OverloadedError(
                f"{self._open} explanations are being worked on and at most {self._most} may.",
                reason="explanations",
                retry_after_s=self._seconds * self._open,
                limit=self._most,
                received=self._open,
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def explain(self, data: bytes, model: Model, class_id: int | None, fit: Fit) -> Explanation:
        """Which parts of the picture speak for a class, the most probable one unless told otherwise.

        Raises:
            PictureError: the bytes do not become a picture.
            OverloadedError: too much is waiting already.
            EngineError: the engine failed on this picture, or has stopped.
        """
        began = perf_counter()
        picture = await self._decoder.decode(data, model.input_size, fit)
        class_id, found, probability = await _learned(picture.pixels, model, class_id)
        shown = await self._decoder.decode(data, overlay.size(picture.width, picture.height))
        drawn = await asyncio.to_thread(overlay.png, shown.pixels, found.map(), model.input_size, fit)
        self._seconds += _SMOOTHING * (perf_counter() - began - self._seconds)
        return Explanation(model, picture, class_id, probability, found.map(), drawn)


async def _learned(
    pixels: NDArray[np.uint8], model: Model, class_id: int | None
) -> tuple[int, Importance, np.float32]:
    """The class, what is known of it after all rounds, and its probability."""
    masks = importance.first_masks()
    nothing = np.zeros_like(masks[:1])
    answers = await _answers(pixels, np.concatenate([nothing, masks]), model)
    if class_id is None:
        class_id = int(answers[0].argmax())
    found = Importance(float(answers[0, class_id]))
    found.learn(masks, answers[1:, class_id])
    for count, candidates in importance.ROUNDS:
        masks = found.next_masks(count, candidates)
        found.learn(masks, (await _answers(pixels, masks, model))[:, class_id])
    return class_id, found, answers[0, class_id]


async def _answers(pixels: NDArray[np.uint8], masks: Masks, model: Model) -> NDArray[np.float32]:
    """What the model makes of the picture under each mask: float32 [N, K]."""
    images = await asyncio.to_thread(importance.blanked, pixels, masks)
    return (await model.predict_in_background(images)).prediction.probabilities
