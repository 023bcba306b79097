import keras
import numpy as np
import pytest
import tensorflow as tf

from training.convolution import FastGradientConv2D


def gradients(layer: keras.layers.Conv2D, x: tf.Tensor, weight: tf.Tensor) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) * weight)
    return list(tape.gradient(loss, [x, layer.kernel.value]))


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [2, 7, 12])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_values_and_gradients_are_those_of_keras(kernel: int, stride: int, side: int, padding: str) -> None:
    if padding == "valid" and kernel > side:
        return
    options = {"strides": stride, "padding": padding, "use_bias": False}
    plain, fast = keras.layers.Conv2D(5, kernel, **options), FastGradientConv2D(5, kernel, **options)
    x = tf.random.stateless_normal([3, side, side, 4], [kernel, stride])
    weight = tf.random.stateless_normal(plain(x).shape, [side, 1])
    fast.build(x.shape)
    fast.set_weights(plain.get_weights())
    assert np.allclose(plain(x), fast(x), atol=1e-5)
    for expected, found in zip(gradients(plain, x, weight), gradients(fast, x, weight), strict=True):
        assert np.allclose(expected, found, atol=1e-4)
