import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation import auroc
from training.ood import MahalanobisScore, fit

pytestmark = pytest.mark.filterwarnings("ignore")  # of TensorFlow's own making


def features(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three classes in three directions of twelve, with noise, each picture as strong as it happens to be."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    directions = 4 * np.eye(12)[labels] + random.normal(0, 0.4, (count, 12))
    return (directions * random.uniform(0.5, 3, (count, 1))).astype(np.float32), labels


def scores(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(MahalanobisScore(fit(*features(2_000, seed=0)))(values).numpy())


def test_training_pictures_have_a_mean_of_one_and_others_of_their_kind_too() -> None:
    assert scores(features(2_000, seed=0)[0]).mean() == pytest.approx(1, abs=0.01)
    assert scores(features(2_000, seed=1)[0]).mean() == pytest.approx(1, abs=0.1)


def test_features_in_no_direction_of_a_class_are_unfamiliar() -> None:
    random = np.random.default_rng(2)
    familiar = scores(features(500, seed=1)[0])
    elsewhere = (4 * np.eye(12)[random.integers(3, 12, 500)] + random.normal(0, 0.4, (500, 12))).astype(
        np.float32
    )
    between = features(500, seed=3)[0] + features(500, seed=4)[0] + features(500, seed=5)[0]
    assert auroc(scores(elsewhere.astype(np.float32)), familiar) > 0.99
    assert auroc(scores(between), familiar) > 0.8


def test_how_strong_a_picture_is_does_not_matter() -> None:
    values, _ = features(50, seed=1)
    assert np.allclose(scores(values), scores(10 * values), rtol=1e-4)


def test_features_that_never_change_are_no_trouble() -> None:
    nothing = np.zeros((6, 4), np.float32)
    assert np.isfinite(MahalanobisScore(fit(nothing, np.arange(6) % 2))(nothing).numpy()).all()
    one_class = np.ones((6, 4), np.float32)
    assert np.isfinite(MahalanobisScore(fit(one_class, np.full(6, 7)))(one_class).numpy()).all()
