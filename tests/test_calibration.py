import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.calibration import (
    conformal_thresholds,
    fit_temperature,
    label_sets,
    ood_threshold,
    sharpened,
)
from training.evaluation import evaluate, loss


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def honest(count: int, sharpness: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Labels drawn from true probabilities, and what a network says that overstates its logits so much."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, 5))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    return softmax(sharpness * logits), labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_temperature_takes_back_what_was_overstated(sharpness: float) -> None:
    probabilities, labels = honest(20_000, sharpness)
    temperature = fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(sharpness, rel=0.05)
    after = evaluate(sharpened(probabilities, 1 / temperature), labels)
    assert after.calibration_error < 0.02
    assert after.loss <= evaluate(probabilities, labels).loss


def test_no_other_temperature_has_a_lower_loss() -> None:
    probabilities, labels = honest(500, 1.7)
    best = fit_temperature(probabilities, labels)
    lowest = loss(sharpened(probabilities, 1 / best), labels)
    assert all(
        lowest <= loss(sharpened(probabilities, 1 / other), labels) + 1e-6
        for other in (0.97 * best, 1.03 * best)
    )


def test_a_network_that_is_always_right_gets_a_temperature_all_the_same() -> None:
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert fit_temperature(probabilities, np.array([0, 1])) == pytest.approx(0.1)
    assert fit_temperature(probabilities, np.array([1, 0])) == pytest.approx(10)


def test_sets_hold_the_truth_as_often_as_promised_whatever_the_network_is_worth() -> None:
    held_out, fresh = honest(2_000, 3.0), honest(20_000, 3.0, seed=1)
    for each in conformal_thresholds(*held_out):
        members = label_sets(fresh[0], each.threshold)
        assert members[np.arange(20_000), fresh[1]].mean() == pytest.approx(each.coverage, abs=0.015)


@given(st.integers(1, 120), st.sampled_from([0.9, 0.95, 0.99]), st.integers(0, 9))
def test_the_promise_holds_for_few_pictures_too(count: int, coverage: float, seed: int) -> None:
    """Of count + 1 pictures, each in its turn the new one, at most a share of 1 - coverage is missed."""
    of_truth = np.random.default_rng(seed).permutation(count + 1) / (count + 1)
    missed = 0
    for left_out in range(count + 1):
        others = np.delete(of_truth, left_out)
        probabilities = np.stack([others, 1 - others], axis=1).astype(np.float32)
        (found,) = conformal_thresholds(probabilities, np.zeros(count, np.int64), (coverage,))
        missed += bool(np.float32(of_truth[left_out]) < found.threshold)
    assert missed <= (1 - coverage) * (count + 1) + 1e-9


def test_a_set_is_never_empty() -> None:
    members = label_sets(np.array([[0.4, 0.35, 0.25], [0.8, 0.15, 0.05]], np.float32), 0.9)
    assert members.tolist() == [[True, False, False], [True, False, False]]


def test_nineteen_of_twenty_familiar_pictures_pass() -> None:
    random = np.random.default_rng(0)
    bound = ood_threshold(random.normal(size=5_000).astype(np.float32))
    assert np.mean(random.normal(size=50_000) <= bound) == pytest.approx(0.95, abs=0.01)
    assert ood_threshold(np.array([3.0, 1.0], np.float32)) == 3.0
