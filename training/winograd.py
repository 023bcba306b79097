"""Convolutions by fewer multiplications, for training on processors.

Winograd's minimal filtering turns a 3x3 convolution of a tile of ``m x m`` outputs into an element-wise
product of ``(m + 2) x (m + 2)`` points, so that a layer becomes ``(m + 2)**2`` matrix products with 4 times
(``m`` = 4), 3.2 times (3) or 2.25 times (2) fewer multiplications than the direct sum (Lavin & Gray 2015,
"Fast Algorithms for Convolutional Neural Networks", https://arxiv.org/abs/1509.09308). Both gradients are
linear in the same way and cost as little. In float32 the error against the direct sum is about 1e-5 of the
largest value; where TensorFlow computes products in bfloat16 it is 3 % of the norm, ten times that of the
direct sum, which a training bears (docs/training.md).

All transforms are matrix products too: one matrix holds every tile along an axis, so that overlapping tiles
are read, and their gradients added up, without a copy. For that the axes go from ``[N, H, W, C]`` to
``[H, W, N, C]``. `benchmarks/training_speed.py` measures what it is worth.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

Matrix = npt.NDArray[np.float32]

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)  # and infinity; small, so that powers cost little precision
TILES = (4, 3, 2)  # outputs along a side of a tile, best first
FEWEST_CHANNELS = 128  # below it the transforms cost more than the products save


class Transforms(NamedTuple):
    """``y = output.T @ ((kernel @ k) * (input.T @ x))``, a correlation along one axis, float32."""

    output: Matrix  # [points, outputs]
    input: Matrix  # [points, points]
    kernel: Matrix  # [points, length of k]


def cook_toom(outputs: int, kernel: int = 3) -> Transforms:
    """The transforms for ``outputs`` values from a kernel of ``kernel`` values.

    They multiply polynomials by way of their values at `POINTS` and at infinity, as many as ``x`` has
    (section 4 of Lavin & Gray; Toom 1963, Cook 1966).
    """
    size = outputs + kernel - 1
    points = POINTS[: size - 1]
    distances = [[np.prod([p - q for q in points if q != p])] for p in points]
    interpolate = np.zeros((size, size))
    for column, point in enumerate(points):
        interpolate[:-1, column] = _coefficients([q for q in points if q != point])
    interpolate[:, -1] = _coefficients(points)
    return Transforms(
        output=np.asarray(_evaluated(points, outputs), np.float32),
        input=np.asarray(interpolate, np.float32),
        kernel=np.asarray(_evaluated(points, kernel) / [*distances, [1.0]], np.float32),
    )


def _evaluated(points: Sequence[float], length: int) -> npt.NDArray[np.float64]:
    """``[points + 1, length]``: powers of each point, and of infinity, where only the highest counts."""
    return np.vstack([np.vander(points, length, increasing=True), np.eye(1, length, length - 1)])


def _coefficients(roots: Sequence[float]) -> npt.NDArray[np.float64]:
    """Of the monic polynomial with these roots, the constant term first."""
    return np.asarray(np.poly(roots), np.float64)[::-1]


def tile_of(side: int) -> int | None:
    """The best tile that divides a side of ``side`` pixels, or None."""
    return next((tile for tile in TILES if side % tile == 0), None)


@lru_cache
def axis_matrices(side: int, tile: int) -> tuple[Matrix, Matrix]:
    """For all tiles of one axis at once: ``[(point, tile), side]`` into and ``[side, (point, tile)]`` out.

    The first reads each tile with a border of one pixel, of zeros outside the picture (SAME padding).
    """
    transforms = cook_toom(tile)
    points, tiles = tile + 2, side // tile
    into = np.zeros((points, tiles, side + 2), np.float32)
    out = np.zeros((side, points, tiles), np.float32)
    for index in range(tiles):
        first = index * tile
        into[:, index, first : first + points] = transforms.input.T
        out[first : first + tile, :, index] = transforms.output.T
    return into[:, :, 1:-1].reshape(points * tiles, side), out.reshape(side, points * tiles)


@lru_cache
def kernel_matrix(tile: int) -> Matrix:
    """``[points * points, 9]``, from a flat 3x3 kernel to its value at every pair of points."""
    along_axis = cook_toom(tile).kernel
    return np.kron(along_axis, along_axis)


def _along_both_axes(x: tf.Tensor, rows: Matrix, columns: Matrix) -> tf.Tensor:
    """``[H, W, N, C]`` to ``[R, S, N, C]`` by ``rows`` of ``[R, H]`` and ``columns`` of ``[S, W]``."""
    height, width, channels = x.shape[0], x.shape[1], x.shape[3]
    batch = tf.shape(x)[2]
    flat = tf.matmul(rows, tf.reshape(x, [height, -1]))
    flat = tf.matmul(columns, tf.reshape(flat, [rows.shape[0], width, -1]))
    return tf.reshape(flat, [rows.shape[0], columns.shape[0], batch, channels])


class _Plan:
    """The transforms of one layer at one size."""

    def __init__(self, height: int, width: int, tile: int) -> None:
        self.points = tile + 2
        self.down = height // tile
        self.row_into, self.row_out = axis_matrices(height, tile)
        self.column_into, self.column_out = axis_matrices(width, tile)
        self.kernel = kernel_matrix(tile)

    def batched(self, x: tf.Tensor) -> tf.Tensor:
        """``[(p, down), (q, across), N, C]`` as ``[p, down, q, (across, N), C]``."""
        return tf.reshape(x, [self.points, self.down, self.points, -1, x.shape[3]])

    def plain(self, x: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, [self.points * self.down, self.column_into.shape[0], batch, x.shape[4]])

    def pictures_into(self, x: tf.Tensor) -> tf.Tensor:
        return self.batched(_along_both_axes(x, self.row_into, self.column_into))

    def pictures_out(self, products: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        return _along_both_axes(self.plain(products, batch), self.row_out, self.column_out)

    def gradient_into(self, gradient: tf.Tensor) -> tf.Tensor:
        """The transpose of `pictures_out`."""
        return self.batched(_along_both_axes(gradient, self.row_out.T, self.column_out.T))

    def gradient_out(self, products: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """The transpose of `pictures_into`; what overlapping tiles say about a pixel is added up."""
        return _along_both_axes(self.plain(products, batch), self.row_into.T, self.column_into.T)

    def kernel_into(self, kernel: tf.Tensor) -> tf.Tensor:
        flat = tf.matmul(self.kernel, tf.reshape(kernel, [9, -1]))
        return tf.reshape(flat, [self.points, 1, self.points, *kernel.shape[2:]])

    def kernel_gradient_out(self, gradient: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(gradient, [self.points * self.points, -1])
        return tf.reshape(tf.matmul(self.kernel, flat, transpose_a=True), [3, 3, *gradient.shape[2:]])


def winograd_conv2d(x: tf.Tensor, kernel: tf.Tensor, tile: int) -> tf.Tensor:
    """``tf.nn.conv2d(x, kernel, 1, "SAME")`` for a 3x3 kernel, within rounding, with its gradients.

    Args:
        x: ``[N, H, W, C]``, float32; ``tile`` divides ``H`` and ``W``, which are known.
        kernel: ``[3, 3, C, K]``, float32.
        tile: outputs along a side of a tile: 2, 3 or 4.

    Returns:
        ``[N, H, W, K]``, float32.
    """
    plan = _Plan(x.shape[1], x.shape[2], tile)

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> Any:
        batch = tf.shape(x)[0]
        pictures = plan.pictures_into(tf.transpose(x, [1, 2, 0, 3]))
        filters = plan.kernel_into(kernel)

        def backward(gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            points = plan.gradient_into(tf.transpose(gradient, [1, 2, 0, 3]))
            by_pixels = plan.gradient_out(tf.matmul(points, filters, transpose_b=True), batch)
            by_rows = tf.matmul(pictures, points, transpose_a=True)
            by_kernel = plan.kernel_gradient_out(tf.reduce_sum(by_rows, axis=1))
            return tf.transpose(by_pixels, [2, 0, 1, 3]), by_kernel

        y = plan.pictures_out(tf.matmul(pictures, filters), batch)
        return tf.transpose(y, [2, 0, 1, 3]), backward

    return convolve(x, kernel)


class WinogradConv2D(keras.layers.Conv2D):
    """Values and gradients of Keras's layer, within rounding, by Winograd's algorithm where it pays.

    That is for 3x3 kernels with stride 1 and SAME padding between layers of `FEWEST_CHANNELS` or more, on
    sides that a tile divides. Everything else is left to Keras.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
        tile = self._tile(inputs)
        if tile is None:
            return super().convolution_op(inputs, kernel)
        return winograd_conv2d(inputs, tf.convert_to_tensor(kernel), tile)

    def _tile(self, inputs: tf.Tensor) -> int | None:
        height, width, channels = inputs.shape[1:]
        plain = self.kernel_size == (3, 3) and self.strides == (1, 1) and self.padding == "same"
        if not plain or min(channels, self.filters) < FEWEST_CHANNELS or None in (height, width):
            return None
        tiles = {tile_of(height), tile_of(width)}
        return tiles.pop() if len(tiles) == 1 else None
