import functools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from training import augmix
from training.augmix import OPERATIONS, augmixed, autocontrast, equalize, posterize, solarize


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(40, 200, (48, 32, 32, 3), dtype=np.uint8)


def test_the_share_that_is_asked_for_is_changed_and_the_given_pictures_are_left_alone(
    images: np.ndarray,
) -> None:
    before = images.copy()
    for share, fewest, most in ((0.0, 0, 0), (0.5, 10, 36), (1.0, 40, 48)):
        changed = augmixed(images, share, np.random.default_rng(1))
        assert fewest <= int(np.any(changed != images, axis=(1, 2, 3)).sum()) <= most
        assert changed.dtype == np.uint8
        assert changed.shape == images.shape
    assert np.array_equal(images, before)


@given(st.integers(0, 2**32 - 1), st.sampled_from(OPERATIONS))
def test_no_operation_leaves_the_levels_or_the_shape(seed: int, operation: augmix.Operation) -> None:
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (5, 12, 10, 3)).astype(np.float32)
    out = operation(x.copy(), random.uniform(augmix.LEAST, augmix.SEVERITY, 5), random)
    assert out.shape == x.shape
    assert out.min() >= 0
    assert out.max() <= 255.01


@given(st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_a_flat_picture_keeps_its_shape_under_whatever_moves_it(level: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = np.full((3, 8, 8, 3), level, np.float32)
    for operation in OPERATIONS[4:]:
        assert np.allclose(operation(x, random.uniform(0, 1, 3), random), level, atol=1e-3)


@pytest.mark.parametrize(
    ("operation", "magnitude", "of_pillow", "off"),
    [
        (autocontrast, 0.0, ImageOps.autocontrast, 1),
        (equalize, 0.0, ImageOps.equalize, 3),
        (posterize, 0.3, functools.partial(ImageOps.posterize, bits=3), 0),
        (solarize, 0.25, functools.partial(ImageOps.solarize, threshold=192), 0),
    ],
)
def test_colours_change_as_pillow_changes_them(
    operation: augmix.Operation, magnitude: float, of_pillow: Callable[[Image.Image], Image.Image], off: int
) -> None:
    random = np.random.default_rng(0)
    images = random.integers(
        40, 200, (2, 300, 200, 3), dtype=np.uint8
    )  # Pillow rounds coarsely on small ones
    ours = operation(images.astype(np.float32), np.full(2, magnitude), random)
    expected = np.stack([np.asarray(of_pillow(Image.fromarray(image))) for image in images]).astype(float)
    assert np.abs(ours - expected).max() <= off


def test_a_turn_keeps_the_middle_and_a_shear_keeps_its_line() -> None:
    random = np.random.default_rng(0)
    x = random.uniform(0, 255, (6, 9, 9, 3)).astype(np.float32)
    strongest = np.ones(6)
    assert np.allclose(augmix.rotate(x, strongest, random)[:, 4, 4], x[:, 4, 4], atol=1e-3)
    assert np.allclose(augmix.shear_columns(x, strongest, random)[:, 4], x[:, 4], atol=1e-3)
    assert np.allclose(augmix.shear_rows(x, strongest, random)[:, :, 4], x[:, :, 4], atol=1e-3)


def test_a_move_shows_the_same_picture_elsewhere() -> None:
    x = np.random.default_rng(0).uniform(0, 255, (6, 12, 12, 3)).astype(np.float32)
    for operation, axis in ((augmix.move_down, 1), (augmix.move_right, 2)):
        moved = operation(x, np.full(6, 0.5), np.random.default_rng(1))  # by a sixth of 12 pixels
        for before, after in zip(x, moved, strict=True):
            shown = [np.roll(before, by, axis - 1) for by in (-2, 2)]
            inner = (slice(2, -2),) * 2
            assert any(np.allclose(after[inner], each[inner], atol=1e-3) for each in shown)
