"""Stand-ins that do the real job on a small scale."""

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from app.engines import Prediction
from app.errors import EngineError

CLASS_NAMES = ("red", "green", "blue")
SHARPNESS = 10.0


class FakeEngine:
    """Tells the strongest of the three colours; the tiny SavedModel of the fixtures computes the same.

    `batches` keeps the size of every batch. A test can hold the engine inside a batch with `gate`, and make it fail
    on the pictures that `fails_on` picks.
    """

    name = "fake"
    precision = "float32"

    def __init__(self, batch_sizes: tuple[int, ...] = (1, 2, 4, 8)) -> None:
        self.batch_sizes = batch_sizes
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.fails_on: Callable[[NDArray[np.uint8]], bool] = lambda image: False
        self.closed = False

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        self.batches.append(len(images))
        self.started.release()
        assert self.gate.wait(timeout=20), "the test never opened the gate"
        if self.closed:
            raise EngineError("The fake engine was closed.")
        if any(map(self.fails_on, images)):
            raise EngineError("The fake engine was told to fail on this picture.")
        return strongest_colour(images)

    def close(self) -> None:
        self.closed = True


def strongest_colour(images: NDArray[np.uint8]) -> Prediction:
    logits = (images.mean(axis=(1, 2)) / 255 * SHARPNESS).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    total = powers.sum(axis=1, keepdims=True)
    return Prediction(powers / total, -(np.log(total[:, 0]) + logits.max(axis=1)).astype(np.float32))
