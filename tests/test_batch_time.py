"""What an engine takes for batches that were not yet run, told from those that were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.batch_time import BatchTime

SIZES = st.lists(st.integers(1, 64), min_size=1, max_size=60)
SECONDS = st.floats(0, 10)


@given(sizes=SIZES, per_batch=SECONDS, per_picture=SECONDS)
def test_an_engine_with_two_prices_is_found_out_once_sizes_differ(
    sizes: list[int], per_batch: float, per_picture: float
) -> None:
    time = BatchTime()
    for pictures in [*sizes, 1, 8]:
        time.observe(pictures, per_batch + per_picture * pictures)
    expected = 3 * per_batch + 20 * per_picture
    assert time.estimate(batches=3, pictures=20) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@given(size=st.integers(1, 64), seconds=st.floats(0.001, 10), count=st.integers(1, 200))
def test_until_sizes_differ_every_batch_is_taken_to_cost_the_same(
    size: int, seconds: float, count: int
) -> None:
    """An estimate too short lets more wait, and sizes differ; one too long would keep them as they are."""
    time = BatchTime()
    for _ in range(count):
        time.observe(size, seconds)
    assert time.estimate(batches=2, pictures=64) == pytest.approx(2 * seconds)


@given(observed=st.lists(st.tuples(st.integers(1, 64), SECONDS), max_size=60))
def test_whatever_was_seen_more_never_takes_less(observed: list[tuple[int, float]]) -> None:
    time = BatchTime()
    for pictures, seconds in observed:
        time.observe(pictures, seconds)
    takes = [time.estimate(batches, 8 * batches) for batches in range(4)]
    assert takes == sorted(takes)
    assert takes[0] == 0
    assert time.estimate(1, 1) <= time.estimate(1, 8)


def test_the_newest_batches_count() -> None:
    time = BatchTime()
    time.observe(8, 60.0)  # it had been swapped out
    for _ in range(100):
        time.observe(8, 0.1)
    assert time.estimate(1, 8) == pytest.approx(0.1, abs=0.01)


def test_before_the_first_batch_nothing_is_known() -> None:
    assert BatchTime().estimate(9, 99) == 0
