"""A figure with its confidence interval, as answers show it."""

from typing import Self

from pydantic import BaseModel

from app import estimation


class Interval(BaseModel):
    """A figure, and between what it lies with a confidence of 95 %."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, interval: estimation.Interval) -> Self:
        return cls(value=interval.value, low=interval.low, high=interval.high)


class Estimate(BaseModel):
    """A figure, and its interval of 95 % by resampling: null where answers are too few or too much alike."""

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, estimate: estimation.Estimate) -> Self:
        return cls(value=estimate.value, low=estimate.low, high=estimate.high)
