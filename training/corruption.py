"""Fifteen ways in which pictures go bad, each at five severities, whole batches at a time.

After Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (https://arxiv.org/abs/1903.12261), with the severities of its CIFAR-10-C, which are made for
pictures of 32 pixels a side. An implementation of its own, whose figures are near those of CIFAR-10-C and not
the same: motion is smeared without ImageMagick, clouds are octaves of noise, and frost is drawn from them and
not from photographs.

A corruption takes pictures float32 ``[N, H, W, 3]`` in 0..1, its parameter at a severity, and a generator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.warping import blurred, clouds, convolved, disk, sampled, smeared, zoomed

Batch = NDArray[np.float32]
Random = np.random.Generator

PART = 256  # pictures at a time, to bound memory


@dataclass(frozen=True)
class Corruption:
    """`parameters` are its five severities, from mild to severe."""

    group: str
    apply: Callable[[Batch, Any, Random], Batch]
    parameters: tuple[Any, ...]


def corrupt(images: NDArray[np.uint8], name: str, severity: int, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures uint8 ``[N, H, W, 3]`` after the corruption of that name, severity 1 to 5."""
    corruption = CORRUPTIONS[name]
    random = np.random.default_rng((seed, sorted(CORRUPTIONS).index(name), severity))
    out = np.empty_like(images)
    for start in range(0, len(images), PART):
        part = np.asarray(images[start : start + PART] / 255, np.float32)
        changed = corruption.apply(part, corruption.parameters[severity - 1], random)
        out[start : start + PART] = np.rint(np.clip(changed, 0, 1) * 255)
    return out


def gaussian_noise(x: Batch, deviation: float, random: Random) -> Batch:
    return x + random.normal(0, deviation, x.shape).astype(np.float32)


def shot_noise(x: Batch, photons: float, random: Random) -> Batch:
    return (random.poisson(x * photons) / photons).astype(np.float32)


def impulse_noise(x: Batch, share: float, random: Random) -> Batch:
    drawn = random.random(x.shape)
    return np.where(drawn < share, (drawn < share / 2).astype(np.float32), x)


def defocus_blur(x: Batch, lens: tuple[float, float], _: Random) -> Batch:
    radius, softness = lens
    return convolved(x, disk(radius, softness))


def glass_blur(x: Batch, glass: tuple[float, int, int], random: Random) -> Batch:
    """Each pixel shows one of those around it, between two Gaussian blurs."""
    deviation, reach, rounds = glass
    x = blurred(x, deviation)
    rows, columns = np.indices(x.shape[1:3])
    for _ in range(rounds):
        down, right = random.integers(-reach, reach + 1, (2, *x.shape[:3]))
        x = sampled(x, (rows + down).astype(float), (columns + right).astype(float))
    return blurred(x, deviation)


def motion_blur(x: Batch, motion: tuple[int, float], random: Random) -> Batch:
    length, deviation = motion
    return smeared(x, length, deviation, random.uniform(-45, 45, len(x)))


def zoom_blur(x: Batch, factors: tuple[float, ...], _: Random) -> Batch:
    frames = [x, *(zoomed(x, factor) for factor in factors)]
    return np.asarray(np.mean(frames, axis=0), np.float32)


def snow(x: Batch, weather: tuple[float, float, float, float, int, float, float], random: Random) -> Batch:
    """Flakes, driven by wind over a picture that is bleached."""
    mean, deviation, size, threshold, length, smear, kept = weather
    flakes = zoomed(random.normal(mean, deviation, (*x.shape[:3], 1)).astype(np.float32), size)
    flakes = np.where(flakes < threshold, 0, flakes)
    flakes = smeared(np.clip(flakes, 0, 1), length, smear, random.uniform(-135, -45, len(x)))
    grey = x.mean(axis=3, keepdims=True)
    bleached = kept * x + (1 - kept) * np.maximum(x, grey * 1.5 + 0.5)
    return np.asarray(bleached + flakes + flakes[:, ::-1, ::-1], np.float32)


def frost(x: Batch, weather: tuple[float, float], random: Random) -> Batch:
    """Bright veins where a cloud of noise passes through its middle, as ice ferns do."""
    kept, strength = weather
    veins = (1 - np.abs(2 * clouds(random, x.shape, decay=1.5) - 1)) ** 3
    tint = np.array([0.85, 0.95, 1.0], np.float32)
    return np.asarray(kept * x + strength * veins * tint, np.float32)


def fog(x: Batch, weather: tuple[float, float], random: Random) -> Batch:
    strength, decay = weather
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray((x + strength * clouds(random, x.shape, decay)) * brightest / (brightest + strength))


def brightness(x: Batch, added: float, _: Random) -> Batch:
    """Raises the value of hue, saturation and value."""
    value = x.max(axis=3, keepdims=True)
    raised = np.minimum(value + added, 1)
    return np.asarray(np.where(value > 0, x * raised / np.maximum(value, 1e-6), raised), np.float32)


def contrast(x: Batch, kept: float, _: Random) -> Batch:
    mean = x.mean(axis=(1, 2), keepdims=True)
    return np.asarray((x - mean) * kept + mean, np.float32)


def elastic_transform(x: Batch, rubber: tuple[float, float, float], random: Random) -> Batch:
    """A random affine map, and a smooth field of displacements; all lengths as shares of a side."""
    count, height, width, _ = x.shape
    strength, smoothness, jitter = (share * height for share in rubber)
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    third = height / 3
    corners = np.array([[1, 1], [2, 1], [1, 2]]) * third + (height % 2)
    moved = corners + random.uniform(-jitter, jitter, (count, 3, 2))
    known = np.concatenate([moved, np.ones((count, 3, 1))], axis=2)
    affine = np.linalg.solve(known, np.broadcast_to(corners, (count, 3, 2)))
    points = np.stack([rows, columns, np.ones_like(rows)], axis=-1) @ affine[:, None]
    field = random.uniform(-1, 1, (count, height, width, 2)).astype(np.float32)
    points = points + strength * (blurred(field, smoothness) if smoothness else 0)
    return sampled(x, points[..., 0], points[..., 1])


def pixelate(x: Batch, share: float, _: Random) -> Batch:
    height, width = x.shape[1:3]
    small = (int(width * share), int(height * share))

    def coarse(image: Image.Image) -> Image.Image:
        return image.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST)

    return _each(x, coarse)


def jpeg_compression(x: Batch, quality: int, _: Random) -> Batch:
    def compressed(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(x, compressed)


def _each(x: Batch, change: Callable[[Image.Image], Image.Image]) -> Batch:
    pictures = np.rint(x * 255).astype(np.uint8)
    changed = [np.asarray(change(Image.fromarray(picture))) for picture in pictures]
    return np.asarray(np.stack(changed) / 255, np.float32)


CORRUPTIONS = {
    "gaussian_noise": Corruption("noise", gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption("noise", shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": Corruption("noise", impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Corruption(
        "blur", defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    ),
    "glass_blur": Corruption(
        "blur", glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    ),
    "motion_blur": Corruption("blur", motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": Corruption(
        "blur",
        zoom_blur,
        tuple(
            tuple(np.arange(1.01, highest, 0.01).tolist()) for highest in (1.055, 1.105, 1.155, 1.205, 1.255)
        ),
    ),
    "snow": Corruption(
        "weather",
        snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "frost": Corruption("weather", frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": Corruption("weather", fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": Corruption("weather", brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Corruption("digital", contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": Corruption(
        "digital",
        elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": Corruption("digital", pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Corruption("digital", jpeg_compression, (80, 65, 58, 50, 40)),
}
