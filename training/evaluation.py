"""What a version is worth, measured the way it is served: through `app.imaging` and an engine."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app import imaging
from app.engines import Engine, Prediction

BATCH = 64
BINS = 15
SMALLEST = 1e-12  # a probability of 0 for the truth would make the loss infinite


@dataclass(frozen=True)
class Evaluation:
    """Figures over labelled pictures.

    `loss` is the mean negative log-likelihood in nats, `calibration_error` see `expected_calibration_error`.
    """

    pictures: int
    accuracy: float
    loss: float
    calibration_error: float


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of uint8 ``[H, W, 3]``."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def predict(engine: Engine, images: NDArray[np.uint8]) -> Iterator[Prediction]:
    """Predictions for uint8 ``[N, H, W, 3]``, batch by batch, each picture as a PNG file on its way."""
    size = images.shape[1:3]
    for start in range(0, len(images), BATCH):
        files = (png(pixels) for pixels in images[start : start + BATCH])
        yield engine.predict(np.stack([imaging.decode(file, size=size).pixels for file in files]))


def evaluate(engine: Engine, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Evaluation:
    """Accuracy and loss on pictures uint8 ``[N, H, W, 3]`` with labels ``[N]``."""
    probabilities = np.concatenate([prediction.probabilities for prediction in predict(engine, images)])
    of_truth = probabilities[np.arange(len(labels)), labels]
    right = probabilities.argmax(axis=1) == labels
    return Evaluation(
        pictures=len(labels),
        accuracy=float(np.mean(right)),
        loss=float(-np.mean(np.log(np.maximum(of_truth, SMALLEST)))),
        calibration_error=expected_calibration_error(probabilities.max(axis=1), right),
    )


def expected_calibration_error(
    confidence: NDArray[np.float32], right: NDArray[np.bool_], bins: int = BINS
) -> float:
    """How far confidence and accuracy lie apart, 0 to 1, over bins of equally many pictures.

    Equal mass instead of equal width, because the bins of Guo et al. 2017 (https://arxiv.org/abs/1706.04599)
    are nearly empty where a good network is seldom (Nguyen & O'Connor 2015, https://arxiv.org/abs/1508.05154).
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(float(np.mean(confidence[part]) - np.mean(right[part]))) for part in parts]
    return sum(gaps) / len(order)
