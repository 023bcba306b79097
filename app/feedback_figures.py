"""What feedback makes of a version."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from app import estimation
from app.estimation import Estimate, Interval
from app.feedback_store import Sample

_MISTAKES: Final = 20


@dataclass(frozen=True, slots=True)
class Mistake:
    """How often a class was taken for another."""

    truth: str
    answer: str
    count: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What feedback makes of one version; `confidence` is the mean probability of what it answered."""

    model: str
    version: int
    pictures: int
    accuracy: Interval
    confidence: float
    calibration_error: Estimate
    brier: Estimate
    mistakes: tuple[Mistake, ...]

    @classmethod
    def of(cls, sample: Sample) -> "Figures":
        right = sample.answer == sample.truth
        names, wrong = sample.class_names, ~right
        pairs = Counter(zip(sample.truth[wrong].tolist(), sample.answer[wrong].tolist(), strict=True))
        return cls(
            model=sample.model,
            version=sample.version,
            pictures=len(right),
            accuracy=estimation.proportion(int(right.sum()), len(right)),
            confidence=float(sample.confidence.mean()),
            calibration_error=estimation.calibration_error(sample.confidence, right),
            brier=estimation.mean(sample.brier),
            mistakes=tuple(
                Mistake(names[truth], names[answer], count)
                for (truth, answer), count in pairs.most_common(_MISTAKES)
            ),
        )
