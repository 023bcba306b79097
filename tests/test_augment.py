import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.augment import augmenter, crop_and_resize, cutout, epoch_order, flip, translate
from training.recipe import FULL, SEED, Phase


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)


@given(st.integers(0, 2**32 - 1), st.integers(0, 1000), st.integers(1, 200))
def test_an_epoch_visits_every_picture_once_in_an_order_of_its_own(seed: int, epoch: int, count: int) -> None:
    order = epoch_order(seed, epoch, count)
    assert sorted(order) == list(range(count))
    assert np.array_equal(order, epoch_order(seed, epoch, count))
    if count > 50:
        assert not np.array_equal(order, epoch_order(seed, epoch + 1, count))


def test_flip_mirrors_about_half(images: np.ndarray) -> None:
    flipped = flip(images, np.random.default_rng(1))
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, images, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 2 < sum(mirrored) < 14


def test_translation_moves_the_middle_without_changing_it(images: np.ndarray) -> None:
    moved = translate(images, 3, np.random.default_rng(1))
    assert moved.shape == images.shape
    for after, before in zip(moved, images, strict=True):
        middle = after[3:-3, 3:-3]
        found = [np.array_equal(middle, before[y : y + 26, x : x + 26]) for y in range(7) for x in range(7)]
        assert any(found)


def test_cutout_hides_a_square_and_nothing_else(images: np.ndarray) -> None:
    hidden = cutout(images, 12, np.random.default_rng(1))
    mean = images.mean(axis=(0, 1, 2)).astype(np.uint8)
    for after, before in zip(hidden, images, strict=True):
        covered = np.all(after == mean, axis=-1)
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        assert 6 <= len(rows) <= 12
        assert 6 <= len(columns) <= 12
        assert covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert np.array_equal(after[~covered], before[~covered])


def test_crops_keep_flat_colours_and_have_the_size_asked_for() -> None:
    flat = np.full((4, 32, 32, 3), 77, np.uint8)
    for size in (16, 24, 40):
        cropped = crop_and_resize(flat, Phase(1, size, 0.5), np.random.default_rng(2))
        assert cropped.shape == (4, size, size, 3)
        assert np.allclose(cropped, 77)


def test_augmentation_is_decided_by_seed_and_step_alone(images: np.ndarray) -> None:
    augment = augmenter(FULL, FULL.phases[0])
    assert np.array_equal(augment(images, 5), augmenter(FULL, FULL.phases[0])(images, 5))
    assert not np.array_equal(augment(images, 5), augment(images, 6))
    other_seed = dataclasses.replace(FULL, seed=1)
    assert not np.array_equal(augment(images, 5), augmenter(other_seed, FULL.phases[0])(images, 5))


def test_without_augmentation_pixels_stay_as_they_are(images: np.ndarray) -> None:
    assert np.array_equal(augmenter(SEED, SEED.phases[0])(images, 0), images)
