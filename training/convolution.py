"""A convolution whose gradient for its input is itself a forward convolution.

On processors without AVX-512, TensorFlow's `Conv2DBackpropInput` reaches a seventh to a half of the speed of
`Conv2D` on the same shapes (measured with this network: 22 to 93 GFLOP/s against 120 to 170 on two AVX2
cores), and it is the largest part of a training step. The gradient is a convolution of the output's
gradient with the kernel turned round (Dumoulin & Visin 2016, "A guide to convolution arithmetic",
https://arxiv.org/abs/1603.07285), so it can run on the fast kernel. `benchmarks/training_speed.py` measures
both.
"""

from typing import Any

import keras
import tensorflow as tf


def _input_gradient_stride_1(gradient: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    turned = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
    return tf.nn.conv2d(gradient, turned, 1, "SAME")


def _parity_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """The ``[2, 2, out, 4 * in]`` kernel that yields all four pixel parities of a stride-2 input gradient.

    With SAME padding on an even side, output ``m`` reads inputs ``2m + k`` for ``k`` in 0, 1, 2. So input
    ``2m`` gets ``g[m] w[0] + g[m-1] w[2]`` and input ``2m + 1`` gets ``g[m] w[1]``, along each axis alike:
    tap 0 below stands for ``g[m-1]`` and tap 1 for ``g[m]``.
    """
    size = kernel.shape[0]
    none = tf.zeros_like(kernel[0, 0])

    def tap(row: int, column: int) -> tf.Tensor:
        inside = 0 <= row < size and 0 <= column < size
        return kernel[row, column] if inside else none

    by_tap = [
        [
            tf.concat(
                [tap(row_taps[i], column_taps[j]) for row_taps in _TAPS for column_taps in _TAPS], axis=0
            )
            for j in range(2)
        ]
        for i in range(2)
    ]
    return tf.transpose(tf.stack([tf.stack(row) for row in by_tap]), [0, 1, 3, 2])


_ABSENT = -1
_TAPS = ((2, 0), (_ABSENT, 1))  # for even and odd inputs: the kernel index used with g[m-1] and with g[m]


def _input_gradient_stride_2(gradient: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    if kernel.shape[0] == 1:
        parities = tf.nn.conv2d(gradient, tf.transpose(kernel, [0, 1, 3, 2]), 1, "SAME")
        parities = tf.concat([parities, tf.zeros(tf.shape(parities) * [1, 1, 1, 3], parities.dtype)], axis=-1)
    else:
        before = tf.pad(gradient, [[0, 0], [1, 0], [1, 0], [0, 0]])
        parities = tf.nn.conv2d(before, _parity_kernel(kernel), 1, "VALID")
    return tf.nn.depth_to_space(parities, 2)


@tf.custom_gradient
def _conv_stride_1(x: tf.Tensor, kernel: tf.Tensor) -> Any:
    def backward(gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _input_gradient_stride_1(gradient, kernel), _kernel_gradient(x, kernel, gradient, 1)

    return tf.nn.conv2d(x, kernel, 1, "SAME"), backward


@tf.custom_gradient
def _conv_stride_2(x: tf.Tensor, kernel: tf.Tensor) -> Any:
    def backward(gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _input_gradient_stride_2(gradient, kernel), _kernel_gradient(x, kernel, gradient, 2)

    return tf.nn.conv2d(x, kernel, 2, "SAME"), backward


def _kernel_gradient(x: tf.Tensor, kernel: tf.Tensor, gradient: tf.Tensor, stride: int) -> tf.Tensor:
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x,
        filter_sizes=kernel.shape,
        out_backprop=gradient,
        strides=[1, stride, stride, 1],
        padding="SAME",
    )


class FastGradientConv2D(keras.layers.Conv2D):
    """Values and gradients of Keras's layer, within rounding, for SAME padding, no dilation and no groups.

    Kernels of side 1 or 3 with stride 1, or with stride 2 on even sides, take the fast path; others Keras's
    own.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
        weights = tf.convert_to_tensor(kernel)
        odd_kernel = self.kernel_size in ((1, 1), (3, 3))
        if not odd_kernel or self.padding != "same":
            return super().convolution_op(inputs, kernel)
        if self.strides == (1, 1):
            return _conv_stride_1(inputs, weights)
        if self.strides == (2, 2) and _even_sides(inputs):
            return _conv_stride_2(inputs, weights)
        return super().convolution_op(inputs, kernel)


def _even_sides(inputs: tf.Tensor) -> bool:
    height, width = inputs.shape[1:3]
    return height is not None and width is not None and height % 2 == 0 and width % 2 == 0
