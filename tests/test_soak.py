"""What a long run is judged by: each bar is missed by itself, and noise misses none."""

from collections import Counter
from dataclasses import replace

import pytest
from soak import Minute, misses, mixed

CALM = Minute(answered_per_s=100, p50=8, p99=20, others=0, resident_mib=240, files=40, threads=20)


def test_a_run_in_which_nothing_grows_misses_nothing() -> None:
    first = replace(CALM, resident_mib=200, files=35, p99=24)  # what is still warming up counts for nothing
    assert misses([first, CALM, replace(CALM, resident_mib=250), CALM]) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"resident_mib": 253}, "253 MiB after 240"),
        ({"files": 41}, "41 open files after 40"),
        ({"threads": 21}, "21 threads after 20"),
        ({"p99": 31}, "p99 31 ms after 20"),
        ({"others": 1}, "answers that nothing deserves"),
    ],
)
def test_each_bar_is_missed_by_itself(changed: dict[str, float], said: str) -> None:
    assert misses([CALM, CALM, replace(CALM, **changed)]) == [said]  # type: ignore[arg-type]  # of one field


def test_every_hundred_requests_are_the_same_mixture() -> None:
    sizes = Counter(len(body.data) for body in mixed())
    assert sum(sizes.values()) == 100
    assert sum(count for size, count in sizes.items() if size > 1_000_000) == 1
    assert sizes[len(b"no picture")] == 1
