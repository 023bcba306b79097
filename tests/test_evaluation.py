import numpy as np
import pytest
from fakes import FakeEngine

from training.evaluation import evaluate


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
