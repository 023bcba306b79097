"""ResNet18 after He et al. 2015, "Deep Residual Learning for Image Recognition" (https://arxiv.org/abs/1512.03385).

Two forms share one builder. The CIFAR form keeps a 32x32 picture at full size through its stem (section 4.2
of the paper, with the widths of ResNet18); the ImageNet form starts with a 7x7 stride-2 convolution and 3x3
max pooling (table 1). Blocks use the paper's option B: a 1x1 convolution on the shortcut where the shape
changes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import keras
from keras import layers

from training.normalization import FusedBatchNormalization

Stem = Literal["cifar", "imagenet"]
Convolution = Callable[..., layers.Conv2D]
Normalization = Callable[..., layers.Layer]


class NetworkBuilder(Protocol):
    """Builds a network from normalised pixels to probabilities, with the layers `logits` and `stem_conv`."""

    def __call__(
        self,
        classes: int,
        *,
        stem: Stem,
        image_size: int | None,
        dropout: float,
        convolution: Convolution = ...,
    ) -> keras.Model: ...


STAGE_FILTERS = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2


@dataclass(frozen=True)
class _Builder:
    convolution: Convolution
    normalization: Normalization

    def conv_bn(
        self, x: keras.KerasTensor, filters: int, kernel: int, stride: int, name: str
    ) -> keras.KerasTensor:
        x = self.convolution(
            filters,
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{name}_conv",
        )(x)
        return self.normalization(name=f"{name}_bn")(x)

    def basic_block(self, x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
        shortcut = x
        if stride != 1 or x.shape[-1] != filters:
            shortcut = self.conv_bn(x, filters, 1, stride, f"{name}_shortcut")
        x = self.conv_bn(x, filters, 3, stride, f"{name}_1")
        x = layers.ReLU(name=f"{name}_1_relu")(x)
        x = self.conv_bn(x, filters, 3, 1, f"{name}_2")
        x = layers.Add(name=f"{name}_add")([x, shortcut])
        return layers.ReLU(name=name)(x)

    def stem(self, x: keras.KerasTensor, form: Stem) -> keras.KerasTensor:
        if form == "cifar":
            x = self.conv_bn(x, STAGE_FILTERS[0], 3, 1, "stem")
            return layers.ReLU(name="stem")(x)
        x = self.conv_bn(x, STAGE_FILTERS[0], 7, 2, "stem")
        x = layers.ReLU(name="stem_relu")(x)
        return layers.MaxPooling2D(3, strides=2, padding="same", name="stem")(x)


def resnet18(
    classes: int = 10,
    *,
    stem: Stem = "cifar",
    image_size: int | None = 32,
    dropout: float = 0.0,
    convolution: Convolution = layers.Conv2D,
    normalization: Normalization = FusedBatchNormalization,
) -> keras.Model:
    """Untrained ResNet18, from normalised pixels ``[N, H, W, 3]`` to probabilities ``[N, classes]``, float32.

    Args:
        classes: width of the last layer.
        stem: ``cifar`` for small pictures, ``imagenet`` for 224x224.
        image_size: height and width in pixels; ``None`` accepts any size, for training at several.
        dropout: share of the 512 pooled features dropped before the dense layer while training, 0 to 1.
        normalization: the layer class of every batch normalisation.
        convolution: the layer class of every convolution; `training.winograd` has one with fewer
        multiplications.

    Layers to hold on to: ``stage1`` to ``stage4``, ``features`` (``[N, 512]``), ``logits`` and
    ``probabilities``.
    """
    build = _Builder(convolution, normalization)
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    x = build.stem(pixels, stem)
    for stage, filters in enumerate(STAGE_FILTERS, start=1):
        for block in range(1, BLOCKS_PER_STAGE + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            last = block == BLOCKS_PER_STAGE
            x = build.basic_block(
                x, filters, stride, f"stage{stage}" if last else f"stage{stage}_block{block}"
            )
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(classes, name="logits")(x)
    probabilities = layers.Softmax(name="probabilities")(x)
    return keras.Model(pixels, probabilities, name="resnet18")
