"""Batch normalisation (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167) as one fused kernel.

On TensorFlow, Keras computes it from moments and elementwise operations, each a pass over memory. On a CPU
those passes cost as much as the convolutions; `FusedBatchNormV3` does the same in one.
"""

from typing import Any

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer over the channels of ``[N, H, W, C]``; statistics stay float32 under bfloat16."""

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any) -> None:
        # The kernel takes inputs of 16 bits with scale and offset of 32, so Keras has nothing to cast.
        super().__init__(momentum=momentum, epsilon=epsilon, autocast=False, **kwargs)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:
        learning = bool(training) and self.trainable
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.convert_to_tensor(self.moving_mean),
            variance=tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            exponential_avg_factor=1.0,
            is_training=learning,
        )
        if learning:
            self._follow(self.moving_mean, mean)
            self._follow(self.moving_variance, variance)
        return outputs

    def _follow(self, average: keras.Variable, batch: tf.Tensor) -> None:
        average.assign(average * self.momentum + tf.stop_gradient(batch) * (1.0 - self.momentum))
