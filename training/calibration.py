"""What is made of a network's probabilities: a temperature, conformal sets, a bound on the OOD score.

All of it is fitted on pictures that the training never saw, and none of it on the test pictures.
"""

import math

import numpy as np
from numpy.typing import NDArray

from app.manifest import ConformalThreshold
from training.evaluation import of_truth

COVERAGES = (0.9, 0.95, 0.99)
FAMILIAR_SHARE = 0.95  # of pictures of the classes that pass the bound on the OOD score
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.1, 10.0
HALVINGS = 60
SMALLEST = 1e-30  # stands for a probability that float32 rounded to 0


def fit_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature that makes the labels most likely (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    Args:
        probabilities: ``[N, classes]`` at temperature 1; their logarithms are the logits but for a constant.
        labels: ``[N]``.

    The loss is convex in the inverse of the temperature, so its slope is halved down to zero. Between 0.1 and
    10: where every label is right already, no temperature is low enough.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
    truth = of_truth(logits, labels).mean()
    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = (sharpened(probabilities, middle) * logits).sum(axis=1).mean()
        low, high = (low, middle) if expected > truth else (middle, high)
    return 1 / low


def sharpened(probabilities: NDArray[np.float32], inverse_temperature: float) -> NDArray[np.float32]:
    """What ``[N, classes]`` become when their logits are multiplied by that number."""
    logits = inverse_temperature * np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def conformal_thresholds(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    coverages: tuple[float, ...] = COVERAGES,
) -> tuple[ConformalThreshold, ...]:
    """Thresholds on a label's probability, above which labels form a set that holds the truth this often.

    The least ambiguous sets of Sadinle, Lei & Wasserman 2019 (https://arxiv.org/abs/1609.00451). The quantile
    is that of split conformal prediction, corrected for finitely many pictures, so that the coverage is at
    least the one asked for over pictures drawn like these. Too few pictures give 0, which lets all labels in.
    """
    descending = np.sort(of_truth(probabilities, labels))[::-1]
    ranks = [_rank(len(labels), coverage) for coverage in coverages]
    return tuple(
        ConformalThreshold(
            coverage=coverage, threshold=float(descending[rank - 1]) if rank <= len(descending) else 0.0
        )
        for coverage, rank in zip(coverages, ranks, strict=True)
    )


def ood_threshold(scores: NDArray[np.float32], share: float = FAMILIAR_SHARE) -> float:
    """The score that at least this share of pictures drawn like these does not exceed."""
    return float(np.sort(scores)[min(_rank(len(scores), share), len(scores)) - 1])


def _rank(count: int, share: float) -> int:
    # Rounded first: 0.9 has no exact form, and a multiple of it must not become the next whole number.
    return math.ceil(round((count + 1) * share, 9))


def label_sets(probabilities: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Which labels of ``[N, classes]`` are in each set; the most probable always is, as in the service."""
    members = probabilities >= threshold
    members[np.arange(len(members)), probabilities.argmax(axis=1)] = True
    return members
