"""What a number of answers took, as the percentiles that people compare."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True)
class Latency:
    """In milliseconds. With fewer than a thousand answers p999 is the slowest of them."""

    p50: float
    p90: float
    p99: float
    p999: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Of what each answer took, in any order; at least one."""
        ordered = sorted(seconds)
        ranks = {name: percentile(ordered, quantile) * 1000 for name, quantile in QUANTILES.items()}
        return cls(**ranks, most=ordered[-1] * 1000)


def percentile(ordered: Sequence[float], quantile: float) -> float:
    """The smallest of the ascending values that this share of them does not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not ordered:
        raise ValueError("There is no percentile of no values.")
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]
