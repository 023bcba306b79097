import keras
import numpy as np

from training.whitening import whiten_stem, whitening_filters


def smooth_pictures() -> np.ndarray:
    """Neighbouring pixels that resemble each other, as in photographs."""
    noise = np.random.default_rng(0).normal(size=(200, 10, 10, 3))
    return (noise[:, 1:, 1:] + noise[:, :-1, 1:] + noise[:, 1:, :-1]).astype(np.float32)


def test_filtered_patches_are_uncorrelated_with_variance_one() -> None:
    images = smooth_pictures()
    filters = whitening_filters(images, 3)
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 27)
    assert np.allclose(np.cov(patches @ filters.T, rowvar=False), np.eye(27), atol=0.05)


def test_the_stem_gets_both_signs_and_keeps_the_rest() -> None:
    layer = keras.layers.Conv2D(64, 3, use_bias=False)
    layer.build((None, 9, 9, 3))
    before = layer.kernel.numpy()
    whiten_stem(layer, smooth_pictures())
    after = layer.kernel.numpy()
    assert np.allclose(after[..., :27], -after[..., 27:54])
    assert np.array_equal(after[..., 54:], before[..., 54:])
    assert not np.allclose(after[..., :27], before[..., :27])
