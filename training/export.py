"""From trained weights to a SavedModel that needs nothing around it: uint8 pixels in, probabilities out."""

import copy
import logging
from pathlib import Path

import keras
import tensorflow as tf


class ServedNetwork(tf.Module):
    """Scaling, network, temperature and softmax in one graph, with the signatures that `app.engines` call."""

    def __init__(
        self,
        network: keras.Model,
        *,
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        temperature: float = 1.0,
    ) -> None:
        """Wraps ``network``, float32 with a layer ``logits``; mean and deviation are of pixels in 0..1."""
        super().__init__()
        self.network = keras.Model(network.input, network.get_layer("logits").output)
        height, width, channels = network.input_shape[1:]
        self.pixels = tf.TensorSpec([None, height, width, channels], tf.uint8, name="images")
        self._mean = tf.constant(mean, tf.float32)
        self._deviation = tf.constant(deviation, tf.float32)
        self.temperature = temperature

    def at_temperature(self, temperature: float) -> "ServedNetwork":
        """The same network with its logits divided by ``temperature`` before the softmax."""
        other = copy.copy(self)
        other.temperature = temperature
        return other

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        pixels = (tf.cast(images, tf.float32) / 255.0 - self._mean) / self._deviation
        return self.network(pixels, training=False)

    def classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Probabilities float32 ``[N, classes]`` of pictures uint8 ``[N, H, W, 3]``."""
        return {"probabilities": tf.nn.softmax(self._logits(images) / self.temperature)}

    def score(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Probabilities, and beside them the energy score float32 ``[N]``, larger for unfamiliar pictures.

        The energy is the negative log-sum-exp of the logits (Liu et al. 2020,
        https://arxiv.org/abs/2010.03759).
        """
        logits = self._logits(images)
        return {
            "probabilities": tf.nn.softmax(logits / self.temperature),
            "ood_score": -tf.reduce_logsumexp(logits, axis=-1),
        }


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
