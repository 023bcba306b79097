"""AugMix: pictures averaged with several of their own distortions, for corruptions that nobody foresaw.

Hendrycks et al. 2020, "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty"
(https://arxiv.org/abs/1912.02781), with its operations, width, depth and severity, on whole batches, and
without its loss over three views, which would cost three times the arithmetic. What comes in at a border is
reflected. None of its operations is one of the corruptions in training/corruption.py.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.warping import Batch, sampled

Random = np.random.Generator
Magnitudes = NDArray[np.float64]  # of each picture, from 0 to 1
Operation = Callable[[Batch, Magnitudes, Random], Batch]
Number = float | Magnitudes  # for all pictures, or one for each

WIDTH = 3  # chains that are averaged
DEPTH = 3  # operations in a chain, at most
SEVERITY = 0.3  # of the strongest form of each operation, at most
LEAST = 0.01  # of it, at least

STEEPEST_TURN = 30.0  # degrees
STEEPEST_SHEAR = 0.3  # pixels along one axis for each along the other
FARTHEST_MOVE = 1 / 3  # of a side
FINEST, COARSEST = 4, 0  # bits that posterizing leaves
LEVELS = 256


def augmixed(images: NDArray[np.uint8], share: float, random: Random) -> NDArray[np.uint8]:
    """Changes that share of uint8 ``[N, H, W, 3]``, and leaves the others as they are."""
    rows = np.flatnonzero(random.random(len(images)) < share)
    if not len(rows):
        return images
    x = images[rows].astype(np.float32)
    weights = random.dirichlet(np.ones(WIDTH), len(rows)).astype(np.float32)
    distorted = sum(weight[:, None, None, None] * _chain(x, random) for weight in weights.T)
    kept = random.random((len(rows), 1, 1, 1)).astype(np.float32)
    out = images.copy()
    out[rows] = np.rint(kept * x + (1 - kept) * distorted)
    return out


def _chain(x: Batch, random: Random) -> Batch:
    """Each picture after one to `DEPTH` operations of its own."""
    x = x.copy()
    depths = random.integers(1, DEPTH + 1, len(x))
    for done in range(DEPTH):
        drawn = random.integers(0, len(OPERATIONS), len(x))
        for number, operation in enumerate(OPERATIONS):
            rows = np.flatnonzero((drawn == number) & (depths > done))
            if len(rows):
                x[rows] = operation(x[rows], random.uniform(LEAST, SEVERITY, len(rows)), random)
    return x


def autocontrast(x: Batch, _: Magnitudes, __: Random) -> Batch:
    """Each channel stretched over all levels."""
    low, high = x.min(axis=(1, 2), keepdims=True), x.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.where(high > low, (x - low) * (LEVELS - 1) / np.maximum(high - low, 1), x))


def equalize(x: Batch, _: Magnitudes, __: Random) -> Batch:
    """Each channel's levels replaced by the share of its pixels that are darker, counting ties by half."""
    count, height, width, channels = x.shape
    lines = np.rint(x).astype(np.int64).transpose(0, 3, 1, 2).reshape(count * channels, height * width)
    offsets = LEVELS * np.arange(len(lines))[:, None]
    histogram = np.bincount((lines + offsets).ravel(), minlength=LEVELS * len(lines)).reshape(-1, LEVELS)
    darker = (np.cumsum(histogram, axis=1) - histogram / 2) / (height * width)
    equal = np.take_along_axis(darker, lines, axis=1).reshape(count, channels, height, width)
    return np.asarray((LEVELS - 1) * equal.transpose(0, 2, 3, 1), np.float32)


def posterize(x: Batch, magnitudes: Magnitudes, _: Random) -> Batch:
    """Only the highest bits of each level are kept."""
    bits = FINEST - np.floor(magnitudes * (FINEST - COARSEST))
    step = (2.0 ** (8 - bits)).astype(np.float32)[:, None, None, None]
    return np.asarray(np.floor(x / step) * step)


def solarize(x: Batch, magnitudes: Magnitudes, _: Random) -> Batch:
    """Levels above a threshold are inverted."""
    threshold = (LEVELS * (1 - magnitudes)).astype(np.float32)[:, None, None, None]
    return np.where(x < threshold, x, LEVELS - 1 - x)


def rotate(x: Batch, magnitudes: Magnitudes, random: Random) -> Batch:
    angle = np.radians(STEEPEST_TURN * _either_way(magnitudes, random))
    return _mapped(x, np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle))


def shear_rows(x: Batch, magnitudes: Magnitudes, random: Random) -> Batch:
    return _mapped(x, 1.0, STEEPEST_SHEAR * _either_way(magnitudes, random), 0.0, 1.0)


def shear_columns(x: Batch, magnitudes: Magnitudes, random: Random) -> Batch:
    return _mapped(x, 1.0, 0.0, STEEPEST_SHEAR * _either_way(magnitudes, random), 1.0)


def move_down(x: Batch, magnitudes: Magnitudes, random: Random) -> Batch:
    return _mapped(x, 1.0, 0.0, 0.0, 1.0, down=FARTHEST_MOVE * _either_way(magnitudes, random))


def move_right(x: Batch, magnitudes: Magnitudes, random: Random) -> Batch:
    return _mapped(x, 1.0, 0.0, 0.0, 1.0, right=FARTHEST_MOVE * _either_way(magnitudes, random))


def _either_way(magnitudes: Magnitudes, random: Random) -> Magnitudes:
    return np.asarray(magnitudes * random.choice((-1.0, 1.0), len(magnitudes)))


def _mapped(
    x: Batch,
    row_of_row: Number,
    row_of_column: Number,
    column_of_row: Number,
    column_of_column: Number,
    down: Number = 0.0,
    right: Number = 0.0,
) -> Batch:
    """Bilinear values where a linear map about the middle leads; moves are shares of a side."""
    height, width = x.shape[1:3]
    rows, columns = np.meshgrid(
        np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij"
    )

    def each(number: Number) -> Magnitudes:
        return np.broadcast_to(number, len(x))[:, None, None]

    return sampled(
        x,
        each(row_of_row) * rows + each(row_of_column) * columns + (height - 1) / 2 - height * each(down),
        each(column_of_row) * rows + each(column_of_column) * columns + (width - 1) / 2 - width * each(right),
    )


OPERATIONS: tuple[Operation, ...] = (
    autocontrast,
    equalize,
    posterize,
    solarize,
    rotate,
    shear_rows,
    shear_columns,
    move_down,
    move_right,
)
