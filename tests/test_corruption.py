import numpy as np
import pytest
from numpy.typing import NDArray

from training.corruption import CORRUPTIONS, corrupt
from training.warping import blurred, clouds, disk, sampled, smeared, zoomed

each = pytest.mark.parametrize("name", CORRUPTIONS)


def pictures(count: int = 12) -> NDArray[np.uint8]:
    """Gradients with a bright square, uint8 [count, 32, 32, 3]."""
    down, right = np.mgrid[0:32, 0:32] * 5
    images = np.stack([down, right, 60 + 0 * down], axis=-1)[np.newaxis].repeat(count, axis=0)
    for index, image in enumerate(images):
        image[10 : 14 + index % 8, 12:20] = 220
    return images.astype(np.uint8)


@each
def test_a_corruption_changes_pictures_more_the_more_severe_it_is(name: str) -> None:
    images = pictures()
    changes = []
    for severity in range(1, 6):
        corrupted = corrupt(images, name, severity)
        assert corrupted.shape == images.shape
        assert corrupted.dtype == np.uint8
        changes.append(float(np.mean(np.abs(corrupted.astype(float) - images))))
    assert 0 < changes[0] < 60
    # An elastic transform trades its affine part for its waves, a severe one is not farther from the picture.
    assert changes[-1] > changes[0] or name == "elastic_transform"


@each
def test_the_seed_decides_and_pictures_differ_from_each_other(name: str) -> None:
    images = pictures(2)[[0, 0]]
    first, second = corrupt(images, name, 3), corrupt(images, name, 3)
    assert np.array_equal(first, second)
    random = {"gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur"}
    random |= {"snow", "frost", "fog", "elastic_transform"}
    assert np.array_equal(first[0], first[1]) is (name not in random)
    assert np.array_equal(first, corrupt(images, name, 3, seed=1)) is (name not in random)


def test_each_group_of_the_benchmark_is_there() -> None:
    counts = dict.fromkeys(("noise", "blur", "weather", "digital"), 0)
    for corruption in CORRUPTIONS.values():
        counts[corruption.group] += 1
        assert len(corruption.parameters) == 5
    assert counts == {"noise": 3, "blur": 4, "weather": 4, "digital": 4}


def test_blurs_keep_what_is_flat_and_the_brightness_of_all() -> None:
    flat = np.full((2, 8, 8, 1), 0.4, np.float32)
    for blur in (blurred(flat, 1.3), smeared(flat, 5, 2.0, np.array([10.0, 80.0])), zoomed(flat, 1.4)):
        assert np.allclose(blur, 0.4, atol=1e-3)
    assert disk(1.5, 0.1).sum() == pytest.approx(1)


def test_a_smear_points_where_it_should() -> None:
    dot = np.zeros((2, 9, 9, 1), np.float32)
    dot[:, 4, 4] = 1
    along, down = smeared(dot, 3, 2.0, np.array([0.0, 90.0]))[..., 0]
    assert np.allclose(along, down.T, atol=1e-6)
    assert along[4].sum() == pytest.approx(1, abs=1e-3)


def test_points_between_pixels_are_weighed_and_those_outside_are_reflected() -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    rows, columns = np.zeros((1, 5)), np.array([[0.25, 3.0, 4.0, -1.0, 8.0]])
    assert sampled(x, rows, columns).ravel().tolist() == [0.25, 3.0, 3.0, 0.0, 0.0]


def test_clouds_fill_their_range() -> None:
    cloud = clouds(np.random.default_rng(0), (3, 32, 32), decay=2)
    assert np.allclose(cloud.min(axis=(1, 2, 3)), 0)
    assert np.allclose(cloud.max(axis=(1, 2, 3)), 1)
