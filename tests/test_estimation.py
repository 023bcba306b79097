"""Intervals hold the truth about as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import estimation
from app.estimation import Estimate, Interval

RANDOM_SEED = 7
RUNS = 200


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Computed by hand from the formula in Wilson 1927.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (1, 1, 0.2065, 1.0)],
)
def test_shares_have_wilsons_interval(successes: int, trials: int, low: float, high: float) -> None:
    interval = estimation.proportion(successes, trials)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    assert interval.value == successes / trials


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_intervals_of_shares_hold_the_truth(share: float) -> None:
    drawn = np.random.default_rng(RANDOM_SEED).binomial(60, share, RUNS)
    intervals = [estimation.proportion(int(successes), 60) for successes in drawn]
    assert np.mean([each.low <= share <= each.high for each in intervals]) > 0.91


def test_intervals_of_means_hold_the_truth() -> None:
    random = np.random.default_rng(RANDOM_SEED)
    intervals = [estimation.mean(random.exponential(0.3, 80)) for _ in range(RUNS)]
    assert np.mean([(each.low or 0) <= 0.3 <= (each.high or 0) for each in intervals]) > 0.88


def test_an_error_of_calibration_is_found_and_its_absence_too() -> None:
    random = np.random.default_rng(RANDOM_SEED)
    confidence = random.uniform(0.5, 1, 3000)
    honest = estimation.calibration_error(confidence, random.random(3000) < confidence)
    boastful = estimation.calibration_error(confidence, random.random(3000) < confidence - 0.2)
    assert honest.value < 0.05
    assert boastful.value == pytest.approx(0.2, abs=0.03)
    assert None not in (honest.high, boastful.low, boastful.high)
    assert honest.high < boastful.low <= boastful.value <= boastful.high  # type: ignore[operator]


@settings(max_examples=40)
@given(
    answers=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
)
def test_every_figure_of_any_sample_lies_in_its_interval(answers: list[tuple[float, bool]]) -> None:
    confidence = np.array([each for each, _ in answers])
    right = np.array([each for _, each in answers])
    figures: list[Interval | Estimate] = [
        estimation.calibration_error(confidence, right),
        estimation.mean(confidence),
        estimation.proportion(int(right.sum()), len(right)),
    ]
    for figure in figures:
        if figure.low is None or figure.high is None:
            assert (figure.low, figure.high) == (None, None)
            assert 0 <= figure.value <= 1
        else:
            assert 0 <= figure.low <= figure.value <= figure.high <= 1


@pytest.mark.parametrize("answers", [[0.1], [0.1] * 7])
def test_answers_that_are_all_alike_have_no_interval_rather_than_one_without_width(
    answers: list[float],
) -> None:
    values, right = np.array(answers), np.ones(len(answers), np.bool_)
    for figure in (estimation.mean(values), estimation.calibration_error(values, right)):
        assert figure.value > 0
        assert (figure.low, figure.high) == (None, None)
    assert estimation.mean(np.array([*answers, 0.9])).high is not None
