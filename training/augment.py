"""Training-time views of pictures, whole batches at a time, decided by (seed, step) alone.

No state is carried from step to step, so a resumed training sees the pictures it would have seen.
"""

from typing import Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training import augmix, uploads
from training.recipe import Phase, Recipe


class Augment(Protocol):
    def __call__(self, images: NDArray[np.uint8], step: int, device: int = 0) -> tf.Tensor: ...


def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of ``range(count)`` that depends on the seed and the epoch only."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def augmenter(recipe: Recipe, phase: Phase) -> Augment:
    """Maps uint8 ``[N, H, W, 3]`` and the step's number to float32 ``[N, size, size, 3]`` in 0..255.

    Where several devices share a step, each says its own number, from 0, and gets chances of its own.
    """

    def augment(images: NDArray[np.uint8], step: int, device: int = 0) -> tf.Tensor:
        random = np.random.default_rng((recipe.seed, 1, step, device) if device else (recipe.seed, 1, step))
        if recipe.translate:
            images = translate(images, recipe.translate, random)
        if recipe.flip:
            images = flip(images, random)
        if recipe.uploads:
            images = uploads.sent(images, recipe.uploads, random, recipe.grain)
        if recipe.augmix:
            images = augmix.augmixed(images, recipe.augmix, random)
        if recipe.cutout:
            images = cutout(images, recipe.cutout, random)
        if phase.smallest_crop < 1.0 or phase.image_size != images.shape[1]:
            return crop_and_resize(images, phase, random)
        return tf.cast(images, tf.float32)

    return augment


def flip(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Mirrors each picture left to right with probability one half."""
    mirrored = random.random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def translate(images: NDArray[np.uint8], pixels: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Moves each picture by up to ``pixels`` along both axes; what comes in is the reflected border."""
    count, height, width, _ = images.shape
    edge = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
    padded = np.pad(images, edge, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    rows, columns = random.integers(0, 2 * pixels + 1, (2, count))
    return np.ascontiguousarray(windows[np.arange(count), rows, columns].transpose(0, 2, 3, 1))


def cutout(images: NDArray[np.uint8], pixels: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Hides a square of each picture behind the mean colour of all (https://arxiv.org/abs/1708.04552).

    Its middle may be anywhere in the picture, so a part of it may lie outside.
    """
    count, height, width, _ = images.shape
    down, right = (
        np.abs(np.arange(side) - random.integers(0, side, (count, 1)) + 0.5) < pixels / 2
        for side in (height, width)
    )
    hidden = down[:, :, None, None] & right[:, None, :, None]
    return np.where(hidden, images.mean(axis=(0, 1, 2)).astype(np.uint8), images)


def crop_and_resize(images: NDArray[np.uint8], phase: Phase, random: np.random.Generator) -> tf.Tensor:
    """Square crops of random size and place, bilinearly resized to float32 ``[N, size, size, 3]``, 0..255."""
    count = len(images)
    sides = random.uniform(phase.smallest_crop, 1.0, count)
    top, left = random.uniform(0.0, 1.0, (2, count)) * (1.0 - sides)
    boxes = np.stack([top, left, top + sides, left + sides], axis=1).astype(np.float32)
    return tf.image.crop_and_resize(images, boxes, np.arange(count), (phase.image_size, phase.image_size))
