"""Winograd's convolutions give what Keras's give, values and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from training.winograd import FEWEST_CHANNELS, WinogradConv2D, cook_toom, tile_of, winograd_conv2d


@pytest.mark.parametrize("outputs", [2, 3, 4])
def test_the_transforms_correlate_along_an_axis(outputs: int) -> None:
    random = np.random.default_rng(outputs)
    x, kernel = random.normal(size=outputs + 2), random.normal(size=3)
    transforms = cook_toom(outputs)
    found = transforms.output.T @ ((transforms.kernel @ kernel) * (transforms.input.T @ x))
    assert np.allclose(found, np.correlate(x, kernel, "valid"), atol=1e-5)


def test_a_tile_of_two_needs_four_products_where_the_direct_sum_needs_six() -> None:
    transforms = cook_toom(2)
    assert transforms.input.shape == (4, 4)
    assert transforms.output.shape == (4, 2)


@pytest.mark.parametrize(
    ("side", "tile"), [(32, 4), (24, 4), (16, 4), (6, 3), (3, 3), (2, 2), (14, 2), (7, None), (1, None)]
)
def test_the_largest_tile_that_divides_a_side_is_taken(side: int, tile: int | None) -> None:
    assert tile_of(side) == tile


@given(
    tile=st.sampled_from([2, 3, 4]),
    down=st.integers(1, 3),
    across=st.integers(1, 3),
    count=st.integers(1, 3),
    channels=st.integers(1, 5),
    filters=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_values_and_gradients_are_those_of_tensorflow(
    tile: int, down: int, across: int, count: int, channels: int, filters: int, seed: int
) -> None:
    shape = (count, tile * down, tile * across)
    x = tf.random.stateless_normal([*shape, channels], [seed, 0])
    kernel = tf.random.stateless_normal([3, 3, channels, filters], [seed, 1])
    gradient = tf.random.stateless_normal([*shape, filters], [seed, 2])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, kernel])
        found = winograd_conv2d(x, kernel, tile)
        expected = tf.nn.conv2d(x, kernel, 1, "SAME")
    assert np.allclose(found, expected, atol=1e-3)
    for ours, theirs in zip(
        tape.gradient(found, [x, kernel], gradient),
        tape.gradient(expected, [x, kernel], gradient),
        strict=True,
    ):
        assert np.allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "channels", "padding"),
    [
        (8, 3, 1, FEWEST_CHANNELS, "same"),
        (6, 3, 1, FEWEST_CHANNELS, "same"),
        (5, 3, 1, FEWEST_CHANNELS, "same"),
        (8, 3, 2, FEWEST_CHANNELS, "same"),
        (8, 1, 1, FEWEST_CHANNELS, "same"),
        (8, 3, 1, FEWEST_CHANNELS, "valid"),
        (8, 3, 1, 4, "same"),
    ],
)
def test_the_layer_is_keras_s_whatever_its_form(
    side: int, kernel: int, stride: int, channels: int, padding: str
) -> None:
    options = {"strides": stride, "padding": padding, "use_bias": False}
    plain, ours = (layer(channels, kernel, **options) for layer in (keras.layers.Conv2D, WinogradConv2D))
    x = tf.random.stateless_normal([2, side, side, channels], [side, kernel])
    weight = tf.random.stateless_normal(plain(x).shape, [side, 1])
    ours.build(x.shape)
    ours.set_weights(plain.get_weights())
    for expected, found in zip(_results(plain, x, weight), _results(ours, x, weight), strict=True):
        assert np.allclose(expected, found, atol=1e-3)


def _results(layer: keras.layers.Conv2D, x: tf.Tensor, weight: tf.Tensor) -> list[tf.Tensor]:
    """Values, and gradients for the input and the kernel."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y * weight)
    return [y, *tape.gradient(loss, [x, layer.kernel.value])]


def test_pictures_of_any_number_and_size_go_through_one_layer() -> None:
    """A training grows its pictures, and its last batch may be smaller."""
    layer = WinogradConv2D(FEWEST_CHANNELS, 3, padding="same", use_bias=False)
    pixels = keras.Input((None, None, FEWEST_CHANNELS))
    network = keras.Model(pixels, layer(pixels))
    run = tf.function(lambda x: network(x, training=True))
    for count, side in ((1, 8), (3, 6), (2, 5)):
        x = tf.random.stateless_normal([count, side, side, FEWEST_CHANNELS], [count, side])
        assert np.allclose(run(x), tf.nn.conv2d(x, layer.kernel.value, 1, "SAME"), atol=1e-3)
