"""What an overload is judged by: each bar is missed by itself, and none is eased by what the flood broke."""

from dataclasses import replace

import pytest
from overload import Flood

GOOD = Flood(
    factor=5,
    rate=3500,
    peak=700,
    peak_after=690,
    answered_per_s=600,
    refused_per_s=2800,
    late_per_s=20,
    other=0,
    left=0.9,
    answered_p50=450,
    answered_p99=500,
    refused_p50=2,
    refused_p99=9,
    retry_after={"1": 9000, "2": 100, "30": 1},
    probe_p99=20,
    probe_most=150,
    after_p50=3.5,
    after_p99=6,
    moderate_p99_before=20,
    moderate_p99=39,
    resident_before_mib=230,
    resident_mib=240,
    most_late=4,
)
BEFORE_P50 = 2.5


def test_goodput_is_of_the_first_peak_on_the_cores_that_were_left() -> None:
    assert GOOD.goodput == pytest.approx(600 / 630)
    assert replace(GOOD, peak_after=350).goodput == GOOD.goodput


def test_what_keeps_every_bar_misses_none() -> None:
    assert GOOD.misses(BEFORE_P50) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answered_per_s": 530}, "goodput 84% of the peak that was left"),
        ({"late_per_s": 31}, "31 answers a second too late"),
        ({"other": 1}, "1 answers that are neither 200 nor 503"),
        ({"probe_p99": 101}, "probes p99 101 ms"),
        ({"refused_p99": 51}, "refusals p99 51 ms"),
        ({"retry_after": {"1": 9, "": 2}}, "2 refusals without a sensible Retry-After"),
        ({"retry_after": {"0": 1, "1": 9, "31": 2}}, "3 refusals without a sensible Retry-After"),
        ({"retry_after": {"1.5": 1, "soon": 1, "²": 1}}, "3 refusals without a sensible Retry-After"),
        ({"peak_after": 620}, "peak 620 afterwards"),
        ({"after_p50": 3.8}, "p50 3.8 ms afterwards"),
        ({"moderate_p99": 41}, "p99 of a moderate load 41 ms after 20"),
        ({"resident_mib": 290}, "290 MiB after 230"),
    ],
)
def test_each_bar_is_missed_by_itself(changed: dict[str, object], said: str) -> None:
    assert replace(GOOD, **changed).misses(BEFORE_P50) == [said]  # type: ignore[arg-type]  # of one field
