"""What a sample of right and wrong answers says about all of them: figures with confidence intervals."""

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
BINS: Final = 15
RESAMPLES: Final = 200

_Z: Final = 1.959963984540054  # standard deviations that hold 95 % of a normal distribution
_SEED: Final = 0
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and between what it lies with a confidence of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The same by resampling, which knows no bounds (None) where all that it draws is alike.

    It is for a lone answer above all: nothing can be said of how far others would be from it.
    """

    value: float
    low: float | None
    high: float | None


def proportion(successes: int, trials: int) -> Interval:
    """A share with its score interval (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953).

    Unlike the textbook's it holds for few trials and for shares near 0 and 1. `trials` is at least 1.
    """
    share, weight = successes / trials, _Z * _Z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return Interval(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def mean(values: NDArray[np.float64]) -> Estimate:
    """The mean of [N], N at least 1, with its percentile bootstrap interval; see `_resamples`."""
    means = _resamples(len(values)) @ values / len(values)
    return _estimate(float(values.mean()), means)


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Estimate:
    """How far confidence and accuracy lie apart over at most 15 bins of equally many answers, both [N].

    The error of few answers comes out too large, since chance alone sets the two apart in every bin; its
    interval has the same fault.
    """
    order = np.argsort(confidence, kind="stable")
    gaps = confidence[order] - right[order]
    edges = np.linspace(0, len(gaps), min(BINS, len(gaps)), endpoint=False).astype(np.int64)
    errors = np.abs(np.add.reduceat(_resamples(len(gaps)) * gaps, edges, axis=1)).sum(axis=1) / len(gaps)
    value = np.abs(np.add.reduceat(gaps, edges)).sum() / len(gaps)
    return _estimate(float(value), errors)


def _estimate(value: float, resampled: NDArray[np.float64]) -> Estimate:
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, (outside, 1 - outside))
    if high - low <= _ROUNDING:
        return Estimate(value, None, None)
    return Estimate(value, min(float(low), value), max(float(high), value))


def _resamples(count: int) -> NDArray[np.int64]:
    """How often each of N answers is drawn when N are drawn with replacement, [RESAMPLES, N].

    Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13. Always the same draws.
    """
    random = np.random.default_rng(_SEED)
    return random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
