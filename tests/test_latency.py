"""The percentiles that benchmarks report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latency import Latency, percentile

SECONDS = st.lists(st.floats(min_value=0, max_value=100), min_size=1, max_size=200)


@given(SECONDS, st.floats(min_value=0.01, max_value=1))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    seconds: list[float], quantile: float
) -> None:
    found = percentile(sorted(seconds), quantile)
    assert found in seconds
    assert sum(each <= found for each in seconds) >= quantile * len(seconds) - 1e-9
    assert sum(each < found for each in seconds) < quantile * len(seconds) + 1e-9


def test_percentiles_are_in_milliseconds_and_in_any_order() -> None:
    assert Latency.of([thousandth / 1000 for thousandth in range(1000, 0, -1)]) == Latency(
        p50=500, p90=900, p99=990, p999=999, most=1000
    )


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile([], 0.5)
