"""A network that is small enough for a whole training in a test, and pictures that it can learn."""

import keras
import numpy as np

from training.data import Dataset
from training.normalization import FusedBatchNormalization
from training.resnet import Convolution, Stem


def one_convolution(
    classes: int,
    *,
    stem: Stem,  # noqa: ARG001 - it has none to choose
    image_size: int | None,
    dropout: float,
    convolution: Convolution = keras.layers.Conv2D,
) -> keras.Model:
    pixels = keras.Input((image_size, image_size, 3))
    x = convolution(54, 3, padding="same", use_bias=False, name="stem_conv")(pixels)
    x = keras.layers.ReLU()(FusedBatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    x = keras.layers.Dense(classes, name="logits")(keras.layers.Dropout(dropout)(x))
    return keras.Model(pixels, keras.layers.Softmax()(x))


def flat_colours(count: int) -> Dataset:
    """Flat pictures, one strong channel each, which is their class."""
    labels = np.arange(count) % 3
    images = np.random.default_rng(0).integers(0, 150, (count, 1, 1, 3), dtype=np.uint8)
    images[np.arange(count), 0, 0, labels] = 255
    images = np.broadcast_to(images, (count, 32, 32, 3)).copy()
    return Dataset(("red", "green", "blue"), images, labels, images[:12], labels[:12])
