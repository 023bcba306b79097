import numpy as np
import pytest

from training.uploads import sent


@pytest.fixture
def images() -> np.ndarray:
    """Two halves of different brightness, uint8 [64, 32, 32, 3]."""
    halves = np.full((64, 32, 32, 3), 60, np.uint8)
    halves[:, 12:] = 180
    return halves


def test_the_share_that_is_asked_for_is_changed(images: np.ndarray) -> None:
    random = np.random.default_rng(0)
    for share, fewest, most in ((0.0, 0, 0), (0.3, 8, 32), (1.0, 64, 64)):
        changed = sent(images, share, random)
        assert fewest <= int(np.any(changed != images, axis=(1, 2, 3)).sum()) <= most
        assert changed.dtype == np.uint8
        assert changed.shape == images.shape


def test_what_is_shown_stays_recognisable_and_no_two_are_alike(images: np.ndarray) -> None:
    changed = sent(images, 1.0, np.random.default_rng(0)).astype(int)
    assert np.all(changed[:, -4:].mean(axis=(1, 2, 3)) > changed[:, :4].mean(axis=(1, 2, 3)) + 40)
    borders = (changed.mean(axis=(2, 3)) < changed.mean(axis=(1, 2, 3))[:, None]).sum(axis=1)
    assert len(set(borders.tolist())) > 6
    assert len({picture.tobytes() for picture in changed}) == 64


def test_the_pictures_that_were_given_are_left_alone(images: np.ndarray) -> None:
    before = images.copy()
    sent(images, 1.0, np.random.default_rng(0))
    assert np.array_equal(images, before)


def test_grain_is_added_to_its_share_of_them(images: np.ndarray) -> None:
    def roughness(grain: float) -> float:
        changed = sent(images, 1.0, np.random.default_rng(0), grain).astype(float)
        return float(np.abs(np.diff(changed[:, :, 20:], axis=2)).mean())

    smooth, half, rough = (roughness(grain) for grain in (0.0, 0.5, 1.0))
    assert smooth < half < rough
    assert rough > smooth + 5
