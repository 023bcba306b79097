import numpy as np
import pytest
from fakes import FakeEngine
from hypothesis import given
from hypothesis import strategies as st

from app import imaging
from training.evaluation import auroc, enlarged_jpeg, evaluate, expected_calibration_error, predict


def test_predictions_are_those_of_the_engine_on_the_same_pixels() -> None:
    engine = FakeEngine()
    images = np.random.default_rng(0).integers(0, 256, (150, 32, 32, 3), dtype=np.uint8)
    found, expected = predict(engine, images), engine.predict(images)
    assert np.allclose(found.probabilities, expected.probabilities, rtol=1e-4)
    assert np.allclose(found.ood_score, expected.ood_score, rtol=1e-4)


def test_accuracy_and_loss_are_counted() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.5, 0.5]], np.float32)
    found = evaluate(probabilities, np.array([0, 1, 0, 0]))
    assert (found.pictures, found.accuracy) == (4, 0.75)
    assert found.loss == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.5]).mean(), rel=1e-5)


def test_an_impossible_truth_costs_much_but_not_infinitely() -> None:
    assert 20 < evaluate(np.array([[1.0, 0.0]], np.float32), np.array([1])).loss < 100


def test_an_enlarged_jpeg_is_larger_and_still_shows_the_picture() -> None:
    pixels = np.full((32, 32, 3), (200, 30, 90), np.uint8)
    picture = imaging.decode(enlarged_jpeg(pixels))
    assert (picture.format, picture.width, picture.height) == ("JPEG", 256, 256)
    assert np.abs(picture.pixels.astype(int) - pixels).max() <= 3
    assert imaging.decode(enlarged_jpeg(np.zeros((200, 300, 3), np.uint8))).width == 600


def test_calibration_is_judged_in_bins_of_equally_many_pictures() -> None:
    confidence = np.repeat(np.array([0.6, 0.9], np.float32), [40, 20])
    right = np.concatenate([np.arange(40) % 5 < 3, np.arange(20) % 10 < 7])
    assert expected_calibration_error(confidence, right, bins=3) == pytest.approx(0.2 / 3, abs=1e-6)
    assert expected_calibration_error(confidence, right, bins=1) == pytest.approx(0.7 - 38 / 60, abs=1e-6)


def test_more_bins_than_pictures_are_no_trouble() -> None:
    assert expected_calibration_error(np.array([0.75], np.float32), np.array([True])) == pytest.approx(0.25)


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1))
def test_auroc_is_the_share_of_pairs_in_order(unfamiliar: list[int], familiar: list[int]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in unfamiliar for b in familiar]
    found = auroc(np.array(unfamiliar, np.float32), np.array(familiar, np.float32))
    assert found == pytest.approx(sum(pairs) / len(pairs))
