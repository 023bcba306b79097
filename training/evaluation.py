"""What a version is worth, measured the way it is served: through `app.imaging` and an engine."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app import imaging
from app.engines import Engine, Prediction, predict_all

Encode = Callable[[NDArray[np.uint8]], bytes]

BATCH = 64
BINS = 15
SENT_SIDE = 256  # pixels
SENT_QUALITY = 85  # of JPEG
SMALLEST = 1e-12  # a probability of 0 for the truth would make the loss infinite


@dataclass(frozen=True)
class Figures:
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


def enlarged_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The picture as somebody might send it: enlarged (bicubic) to 256 pixels or twice its size, as JPEG."""
    height, width, _ = pixels.shape
    times = max(2, SENT_SIDE // min(height, width))
    file = BytesIO()
    image = Image.fromarray(pixels).resize((times * width, times * height), Image.Resampling.BICUBIC)
    image.save(file, "JPEG", quality=SENT_QUALITY)
    return file.getvalue()


def predict(engine: Engine, images: NDArray[np.uint8], encode: Encode = png) -> Prediction:
    """Predictions for uint8 ``[N, H, W, 3]``, N at least 1, each picture as a file on its way."""
    size = images.shape[1:3]
    parts = []
    with ThreadPoolExecutor(engine.concurrency) as threads:
        for start in range(0, len(images), BATCH):
            files = (encode(pixels) for pixels in images[start : start + BATCH])
            received = np.stack([imaging.decode(file, size=size).pixels for file in files])
            parts.append(predict_all(engine, received, threads))
    return Prediction(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.ood_score for part in parts]),
    )


def evaluate(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Figures:
    """Figures of ``[N, classes]`` against labels ``[N]``."""
    right = probabilities.argmax(axis=1) == labels
    return Figures(
        pictures=len(labels),
        accuracy=float(np.mean(right)),
        loss=loss(probabilities, labels),
        calibration_error=expected_calibration_error(probabilities.max(axis=1), right),
    )


def of_truth(values: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """From each row of ``[N, classes]`` the value of its label."""
    return values[np.arange(len(labels)), labels]


def loss(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The mean negative log-likelihood in nats."""
    return float(-np.mean(np.log(np.maximum(of_truth(probabilities, labels), SMALLEST))))


def bins_of_equal_mass(confidence: NDArray[np.float32], bins: int = BINS) -> list[NDArray[np.int64]]:
    """Rows in ascending order of confidence, in at most ``bins`` parts, none of them empty.

    Equal mass instead of equal width, because the bins of Guo et al. 2017 (https://arxiv.org/abs/1706.04599)
    are nearly empty where a good network is seldom (Nguyen & O'Connor 2015, https://arxiv.org/abs/1508.05154).
    """
    return [part for part in np.array_split(np.argsort(confidence, kind="stable"), bins) if len(part)]


def expected_calibration_error(
    confidence: NDArray[np.float32], right: NDArray[np.bool_], bins: int = BINS
) -> float:
    """How far confidence and accuracy lie apart, 0 to 1, over bins of equally many pictures."""
    gaps = [
        len(part) * abs(float(np.mean(confidence[part]) - np.mean(right[part])))
        for part in bins_of_equal_mass(confidence, bins)
    ]
    return sum(gaps) / len(confidence)


def auroc(unfamiliar: NDArray[np.float32], familiar: NDArray[np.float32]) -> float:
    """How often a score of ``unfamiliar`` is above one of ``familiar``, ties counting half; 0.5 is chance."""
    ascending = np.sort(familiar)
    below = np.searchsorted(ascending, unfamiliar, "left") + np.searchsorted(ascending, unfamiliar, "right")
    return float(np.mean(below) / (2 * len(familiar)))
