"""Training pictures as if somebody had sent them: scaled, stretched, lit, blurred, grainy, compressed.

Pictures of CIFAR-10 are cut out and reduced alike, and those that people send are not. How far each change
goes is drawn per picture; blur is drawn once per batch, which makes it one convolution.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.warping import blurred, sampled

Random = np.random.Generator

LARGEST_SCALE = 1.4  # as many times nearer, or farther
LARGEST_STRETCH = 4 / 3  # of one side against the other
LARGEST_SHIFT = 0.1  # of a side
LARGEST_BLUR = 0.8  # deviation in pixels
LIGHT = 0.2  # contrast is multiplied, and brightness moved, by up to this share
LARGEST_NOISE = 20  # deviation in levels of 255
COMPRESSED = 0.5  # share of these that go through JPEG
QUALITIES = (40, 95)


def sent(images: NDArray[np.uint8], share: float, random: Random, grain: float = 0.0) -> NDArray[np.uint8]:
    """Changes that share of uint8 ``[N, H, W, 3]``, and leaves the others as they are.

    Of those that it changes, the share ``grain`` has noise, as in poor light.
    """
    rows = np.flatnonzero(random.random(len(images)) < share)
    if not len(rows):
        return images
    changed = _placed(images[rows].astype(np.float32), random)
    changed = blurred(changed, random.uniform(0, LARGEST_BLUR))
    changed = _lit(changed, random)
    if grain:
        changed = _grained(changed, grain, random)
    pixels = np.rint(np.clip(changed, 0, 255)).astype(np.uint8)
    out = images.copy()
    out[rows] = _compressed(pixels, random)
    return out


def _placed(x: NDArray[np.float32], random: Random) -> NDArray[np.float32]:
    """Scaled, stretched and moved; what comes in at the border is reflected."""
    count, height, width, _ = x.shape
    scale = LARGEST_SCALE ** random.uniform(-1, 1, count)
    stretch = LARGEST_STRETCH ** random.uniform(-0.5, 0.5, count)
    shift = random.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, (2, count))
    rows = _line(height, scale * stretch, shift[0])[:, :, None]
    columns = _line(width, scale / stretch, shift[1])[:, None, :]
    shape = (count, height, width)
    return sampled(x, np.broadcast_to(rows, shape), np.broadcast_to(columns, shape))


def _line(side: int, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where ``side`` pixels are taken from, ``[N, side]``."""
    middle = (side - 1) / 2
    return middle + (np.arange(side) - middle) / scale[:, None] + side * shift[:, None]


def _lit(x: NDArray[np.float32], random: Random) -> NDArray[np.float32]:
    contrast, brightness = random.uniform(-LIGHT, LIGHT, (2, len(x), 1, 1, 1))
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    return np.asarray((x - mean) * (1 + contrast) + mean + 255 * brightness, np.float32)


def _grained(x: NDArray[np.float32], share: float, random: Random) -> NDArray[np.float32]:
    """Adds noise to that share, to each with a deviation of its own."""
    rows = np.flatnonzero(random.random(len(x)) < share)
    deviations = random.uniform(0, LARGEST_NOISE, (len(rows), 1, 1, 1)).astype(np.float32)
    x[rows] += deviations * random.standard_normal((len(rows), *x.shape[1:]), np.float32)
    return x


def _compressed(images: NDArray[np.uint8], random: Random) -> NDArray[np.uint8]:
    for row in np.flatnonzero(random.random(len(images)) < COMPRESSED):
        file = BytesIO()
        Image.fromarray(images[row]).save(file, "JPEG", quality=int(random.integers(*QUALITIES)))
        images[row] = np.asarray(Image.open(file))
    return images
