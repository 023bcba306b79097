import keras
import numpy as np
import pytest

from training.normalization import FusedBatchNormalization


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(3, 2, (8, 5, 5, 4)).astype(np.float32)


def test_training_normalises_the_batch_and_follows_its_statistics(x: np.ndarray) -> None:
    layer = FusedBatchNormalization(momentum=0.5)
    y = np.array(layer(x, training=True))
    assert np.allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    assert np.allclose(y.std(axis=(0, 1, 2)), 1, atol=1e-3)
    assert np.allclose(layer.moving_mean, 0.5 * x.mean(axis=(0, 1, 2)), rtol=1e-4)
    assert np.allclose(layer.moving_variance, 0.5 + 0.5 * x.var(axis=(0, 1, 2), ddof=1), rtol=1e-3)


def test_inference_equals_the_layer_of_keras_and_changes_nothing(x: np.ndarray) -> None:
    ours, theirs = FusedBatchNormalization(), keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    ours.build(x.shape)
    theirs.build(x.shape)
    weights = [np.array([1.5, 0.5, 1, 2]), np.arange(4), np.array([3, 2, 1, 0]), np.array([4, 1, 2, 0.5])]
    for layer in (ours, theirs):
        layer.set_weights(weights)
    assert np.allclose(ours(x), theirs(x), atol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), weights, strict=True))
