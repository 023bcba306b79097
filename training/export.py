"""From trained weights to a SavedModel that needs nothing around it: uint8 pixels in, probabilities out."""

import logging
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

BATCH = 250  # pictures at a time


class ServedNetwork(tf.Module):
    """Scaling, network, temperature, softmax and OOD score in one graph, as `app.engines` call it."""

    def __init__(
        self,
        network: keras.Model,
        ood_score: tf.Module,
        *,
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        temperature: float = 1.0,
    ) -> None:
        """Wraps ``network``, float32 with layers ``features`` and ``logits``.

        Args:
            network: from pixels ``[N, H, W, 3]`` that were scaled.
            ood_score: maps features ``[N, D]`` to ``[N]``, larger for unfamiliar pictures.
            mean: per channel, of pixels in 0..1.
            deviation: likewise.
            temperature: what logits are divided by before the softmax.
        """
        super().__init__()
        outputs = [network.get_layer(name).output for name in ("logits", "features")]
        self.network = keras.Model(network.input, outputs)
        self.ood_score = ood_score
        self.temperature = temperature
        height, width, channels = network.input_shape[1:]
        self.pixels = tf.TensorSpec([None, height, width, channels], tf.uint8, name="images")
        self._mean, self._deviation = mean, deviation

    def classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Probabilities float32 ``[N, classes]`` of pictures uint8 ``[N, H, W, 3]``."""
        return {"probabilities": self.score(images)["probabilities"]}

    def score(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Probabilities, and beside them the OOD score float32 ``[N]``, larger for unfamiliar pictures."""
        logits, features = self.network(scaled(images, self._mean, self._deviation), training=False)
        return {
            "probabilities": tf.nn.softmax(logits / self.temperature),
            "ood_score": self.ood_score(features),
        }


def scaled(images: tf.Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> tf.Tensor:
    """Pixels 0..255 as the network takes them."""
    return (tf.cast(images, tf.float32) / 255.0 - tf.constant(mean)) / tf.constant(deviation)


def features_of(
    network: keras.Model, images: NDArray[np.uint8], mean: tuple[float, ...], deviation: tuple[float, ...]
) -> NDArray[np.float32]:
    """The features float32 ``[N, D]`` in front of the last layer, of pictures uint8 ``[N, H, W, 3]``."""
    to_features = keras.Model(network.input, network.get_layer("features").output)
    compute = tf.function(lambda images: to_features(scaled(images, mean, deviation), training=False))
    parts = [compute(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate([part.numpy() for part in parts])


def export(network: ServedNetwork, folder: Path) -> None:
    """Writes a SavedModel with the signatures ``serving_default`` and ``scored`` into an existing folder."""
    logging.getLogger("tensorflow").setLevel(
        logging.ERROR
    )  # notes on layers that nobody will call by themselves
    signatures = {
        "serving_default": tf.function(network.classify).get_concrete_function(network.pixels),
        "scored": tf.function(network.score).get_concrete_function(network.pixels),
    }
    tf.saved_model.save(network, str(folder), signatures=signatures)
