import numpy as np
import pytest
from fakes import FakeEngine

from training.evaluation import evaluate, expected_calibration_error


def test_accuracy_and_loss_are_those_of_the_engine_on_the_same_pixels() -> None:
    engine = FakeEngine()
    images = np.random.default_rng(0).integers(0, 256, (150, 32, 32, 3), dtype=np.uint8)
    probabilities = np.concatenate(
        [engine.predict(images[i : i + 10]).probabilities for i in range(0, 150, 10)]
    )
    labels = probabilities.argmax(axis=1)
    labels[:30] = (labels[:30] + 1) % probabilities.shape[1]
    found = evaluate(engine, images, labels)
    assert found.pictures == 150
    assert found.accuracy == pytest.approx(0.8)
    assert found.loss == pytest.approx(-np.log(probabilities[np.arange(150), labels]).mean(), rel=1e-4)


def test_an_impossible_truth_costs_much_but_not_infinitely() -> None:
    engine = FakeEngine()
    images = np.full((1, 32, 32, 3), (255, 0, 0), np.uint8)
    worst = engine.predict(images).probabilities.argmin(axis=1)
    assert np.isfinite(evaluate(engine, images, worst).loss)


def test_calibration_is_judged_in_bins_of_equally_many_pictures() -> None:
    confidence = np.repeat(np.array([0.6, 0.9], np.float32), [40, 20])
    right = np.concatenate([np.arange(40) % 5 < 3, np.arange(20) % 10 < 7])
    assert expected_calibration_error(confidence, right, bins=3) == pytest.approx(0.2 / 3, abs=1e-6)
    assert expected_calibration_error(confidence, right, bins=1) == pytest.approx(0.7 - 38 / 60, abs=1e-6)


def test_more_bins_than_pictures_are_no_trouble() -> None:
    assert expected_calibration_error(np.array([0.75], np.float32), np.array([True])) == pytest.approx(0.25)
