"""Stand-ins that do the real job on a small scale, and a model version for them."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app import golden
from app.engines import Engine, Prediction
from app.errors import EngineError
from app.manifest import (
    GOLDEN_NAME,
    Calibration,
    Card,
    ConformalThreshold,
    Evaluation,
    Input,
    Measurement,
    ReliabilityBin,
)
from app.repository import Repository, Version

MODEL = "colours"
CARD = Card(class_names=("red", "green", "blue"), input=Input(height=32, width=32))
SHARPNESS = 10.0
WEIGHTS = "variables/variables.data-00000-of-00001"
# The score is minus the largest logit, nearly: a picture as dark as a tenth of full light is like no other.
CALIBRATED = CARD.model_copy(
    update={
        "measurements": (
            Measurement(
                metric="accuracy", data="colours", value=0.75, pictures=4, engine="fake", precision="float32"
            ),
        ),
        "calibration": Calibration(
            conformal_thresholds=(
                ConformalThreshold(coverage=0.9, threshold=0.6),
                ConformalThreshold(coverage=0.95, threshold=0.3),
                ConformalThreshold(coverage=0.99, threshold=0.01),
            ),
            ood_threshold=-2.0,
        ),
        "evaluation": Evaluation(
            data="colours",
            engine="fake",
            precision="float32",
            confusion=((2, 0, 0), (1, 1, 0), (0, 0, 0)),
            reliability=(
                ReliabilityBin(confidence=0.5, accuracy=0.25, pictures=1),
                ReliabilityBin(confidence=0.9, accuracy=1.0, pictures=3),
            ),
        ),
    }
)


class FakeEngine:
    """Tells the strongest of the three colours; the tiny SavedModel of the fixtures computes the same.

    `batches` keeps the size of every batch. A test can hold the engine inside a batch with `gate`, and make
    it fail on the pictures that `fails_on` picks.
    """

    name = "fake"
    precision = "float32"
    concurrency = 1
    ahead = 0

    def __init__(self, batch_sizes: tuple[int, ...] = (1, 2, 4, 8)) -> None:
        self.batch_sizes = batch_sizes
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails_on: Callable[[NDArray[np.uint8]], bool] = lambda _: False
        self.closed = False

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        self.batches.append(len(images))
        assert self.gate.wait(timeout=20), "the test never opened the gate"
        if self.closed:
            raise EngineError("The fake engine was closed.")
        if any(map(self.fails_on, images)):
            raise EngineError("The fake engine was told to fail on this picture.")
        return strongest_colour(images)

    def close(self) -> None:
        self.closed = True


def strongest_colour(images: NDArray[np.uint8]) -> Prediction:
    """Softmax and energy of the mean of each channel."""
    logits = (images.mean(axis=(1, 2)) / 255 * SHARPNESS).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    total = powers.sum(axis=1, keepdims=True)
    return Prediction(powers / total, -(np.log(total[:, 0]) + logits.max(axis=1)).astype(np.float32))


def publish(
    repository: Repository, engine: Engine, fill: Callable[[Path], object], card: Card = CARD
) -> Version:
    """The next version: what `fill` puts into its folder, with golden pictures for the engine."""
    with repository.staging(MODEL) as staging:
        fill(staging.path)
        golden.write(golden.record(engine), staging.path / GOLDEN_NAME)
        return staging.publish(card)


def publish_calibrated(repository: Repository, card: Card = CALIBRATED) -> Version:
    """The next version for the fake engine, with all that a card can say and a file where weights stand."""

    def fill(folder: Path) -> None:
        (folder / WEIGHTS).parent.mkdir()
        (folder / WEIGHTS).write_bytes(b"weights")

    return publish(repository, FakeEngine(), fill, card)


def publish_fake(repository: Repository, card: Card = CARD, weights: bytes = b"weights") -> Version:
    """The next version for the fake engine."""
    return publish(
        repository, FakeEngine(), lambda folder: (folder / "weights.bin").write_bytes(weights), card
    )
