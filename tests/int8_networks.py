"""Small residual networks of 8-bit integers: made up, written as OpenVINO's files, and computed exactly.

Every step and scale that is made up is a power of two, and no sum comes to lie half-way between two steps, so
that float32 and float64 round each activation to the same step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from fakes import SHARPNESS
from numpy.typing import NDArray
from openvino import opset13 as ops

from app.engines import QUANTIZED, Prediction
from app.engines.openvino import OUTPUTS
from app.engines.winograd.network import Convolution, Head, Network, Stem

STEP = 2.0**-6  # of every activation: from 0 to about 4
_SCALE = 2.0**-7  # of most sums of whole numbers, in steps
_OFF_THE_MIDDLE = 2.0**-10  # in steps: eight such results added are on no multiple of the scale yet

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Block:
    """Two 3x3 convolutions and a sum, or one without a sum.

    Where they change the size or the number of channels, what is added goes through a 1x1 convolution, which
    comes before the others or behind them.
    """

    channels: int
    stride: int = 1
    has_sum: bool = True
    shortcut_first: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    height: int
    width: int
    blocks: tuple[Block, ...]
    channels: int = 32  # that come out of the stem
    classes: int = 3
    seed: int = 0


def made_up(plan: Plan) -> Network:
    """A network of random numbers."""
    random = np.random.default_rng(plan.seed)
    convolutions: list[Convolution] = []
    result, channels = 0, plan.channels

    def add(out: int, source: int, depth: int, **options: Any) -> int:
        convolutions.append(_convolution(random, out, source, depth, **options))
        return len(convolutions)

    for block in plan.blocks:
        out, stride, source = block.channels, block.stride, result
        if not block.has_sum:
            result = add(out, source, channels, stride=stride)
        elif (out, stride) == (channels, 1):
            inner = add(out, source, channels)
            result = add(out, inner, out, addend=source)
        elif block.shortcut_first:
            shortcut = add(out, source, channels, stride=stride, size=1, has_relu=False)
            inner = add(out, source, channels, stride=stride)
            result = add(out, inner, out, addend=shortcut)
        else:
            inner = add(out, source, channels, stride=stride)
            outer = add(out, inner, out, has_relu=False)
            result = add(out, source, channels, stride=stride, size=1, addend=outer)
        channels = out
    return with_steps(
        Network(
            plan.height,
            plan.width,
            _stem(random, plan.channels),
            tuple(convolutions),
            _head(random, plan.classes, channels),
        )
    )


def with_steps(network: Network) -> Network:
    """The same where only those results are quantised that somebody reads."""
    read = {each.source for each in network.convolutions}
    stem, convolutions = network.stem, network.convolutions
    return Network(
        network.height,
        network.width,
        Stem(stem.factor, stem.shift, stem.weights, stem.bias, STEP if 0 in read else None),
        tuple(
            Convolution(
                each.weights,
                each.scale,
                each.bias,
                each.stride,
                each.source,
                each.addend,
                each.has_relu,
                STEP if number in read else None,
            )
            for number, each in enumerate(convolutions, start=1)
        ),
        network.head,
    )


def strongest_colour() -> Network:
    """What `fakes.strongest_colour` computes, as far as probabilities go: red, green and blue as they are."""
    step, channels = 1 / 255, 32
    as_it_is = np.zeros((channels, channels, 3, 3), np.float32)
    as_it_is[range(channels), range(channels), 1, 1] = 1
    none = np.zeros(channels, np.float32)
    stem = Stem(np.full(3, step, np.float32), none[:3], as_it_is[:, :3], none, step)
    scale = np.full(channels, step / 127, np.float32)
    weights = (127 * as_it_is).astype(np.int8)
    convolutions = (Convolution(weights, scale, none, 1, source=0, addend=None, has_relu=True, step=None),)
    logits = SHARPNESS * np.eye(3, channels, dtype=np.float32)
    head = Head(logits, none[:3], np.eye(channels, dtype=np.float32), 0 * logits, 1e-12, 1.0)
    return Network(32, 32, stem, convolutions, head)


def _stem(random: np.random.Generator, channels: int) -> Stem:
    return Stem(
        factor=np.full(3, 2.0**-8, np.float32),
        shift=(random.integers(-128, 1, 3) * 2.0**-8).astype(np.float32),
        weights=(random.integers(-8, 9, (channels, 3, 3, 3)) * 2.0**-4).astype(np.float32),
        bias=_bias(random, channels),
        step=None,
    )


def _convolution(
    random: np.random.Generator,
    out: int,
    source: int,
    depth: int,
    *,
    stride: int = 1,
    size: int = 3,
    addend: int | None = None,
    has_relu: bool = True,
) -> Convolution:
    return Convolution(
        weights=random.integers(-8, 9, (out, depth, size, size), np.int8),
        scale=(STEP * _SCALE * random.choice([1, 2], out)).astype(np.float32),
        bias=_bias(random, out),
        stride=stride,
        source=source,
        addend=addend,
        has_relu=has_relu,
        step=None,
    )


def _bias(random: np.random.Generator, channels: int) -> NDArray[np.float32]:
    return ((random.integers(-20, 21, channels) + _OFF_THE_MIDDLE) * STEP).astype(np.float32)


def _head(random: np.random.Generator, classes: int, features: int) -> Head:
    def normal(*shape: int) -> NDArray[np.float32]:
        return random.normal(size=shape).astype(np.float32)

    return Head(
        weights=normal(classes, features) / np.float32(features**0.5),
        bias=normal(classes),
        directions=normal(features, features),
        centres=normal(classes, features),
        least_square=float(np.float32(1e-12)),
        distance_factor=0.125,
    )


def pictures(network: Network, count: int, seed: int = 0) -> NDArray[np.uint8]:
    shape = (count, network.height, network.width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(
    network: Network,
    folder: Path,
    *,
    temperature: float = 0.5,
    bias_first: bool = False,
    compressed: bool = False,
) -> Path:
    """The file of the int8 network in a version's folder, in the form of `training/quantization.py`.

    `temperature`, a power of two, divides the logits in a step of its own, as calibration leaves it, which
    comes before their bias unless that is `bias_first`.
    `compressed` stores the parameters of floats as float16, as what is published does.
    """
    parameters = _as_float16 if compressed else _as_float32
    images = ops.parameter([-1, network.height, network.width, 3], ov.Type.u8, name="images")
    features = _features(network, images, parameters)
    mean = ops.reduce_mean(features, ops.constant(np.array([2, 3], np.int32)), keep_dims=False)
    logits = _times(mean, parameters(network.head.weights * temperature))
    bias = network.head.bias.reshape(1, -1)
    if bias_first:
        logits = ops.add(logits, parameters(bias * temperature))
    if temperature != 1:
        logits = ops.multiply(logits, _as_float32([[1 / temperature]]))
    if not bias_first:
        logits = ops.add(logits, parameters(bias))
    outputs = [ops.softmax(logits, -1), _distance(network.head, mean, parameters)]
    for name, output in zip(OUTPUTS, outputs, strict=True):
        output.output(0).get_tensor().set_names({name})
    path = folder / QUANTIZED
    ov.save_model(ov.Model(outputs, [images], "network"), path, compress_to_fp16=False)
    return path


def _as_float32(values: Any) -> Any:
    return ops.constant(np.asarray(values, np.float32))


def _as_float16(values: NDArray[np.float32]) -> Any:
    return ops.convert(ops.constant(values.astype(np.float16)), "f32")


def _features(network: Network, images: Any, parameters: Callable[[Any], Any]) -> Any:
    """What comes out of the last convolution."""

    def biased(x: Any, weights: Any, bias: NDArray[np.float32], stride: int) -> Any:
        sides = [stride] * 2, [0] * 2, [0] * 2, [1] * 2
        convolved = ops.convolution(x, weights, *sides, auto_pad="same_upper")
        return ops.add(convolved, parameters(bias.reshape(1, -1, 1, 1)))

    stem = network.stem
    pixels = ops.transpose(ops.convert(images, "f32"), ops.constant(np.array([0, 3, 1, 2])))
    pixels = ops.multiply(pixels, parameters(stem.factor.reshape(1, 3, 1, 1)))
    pixels = ops.add(pixels, parameters(stem.shift.reshape(1, 3, 1, 1)))
    results = [ops.relu(biased(pixels, parameters(stem.weights), stem.bias, 1))]
    for each, step in zip(network.convolutions, _steps(network), strict=True):
        bounds = [_as_float32(bound) for bound in (0, 255 * step, 0, 255 * step)]
        quantized = ops.fake_quantize(results[each.source], *bounds, 256)
        scale = _as_float32((each.scale / np.float32(step)).reshape(-1, 1, 1, 1))
        weights = ops.multiply(ops.convert(ops.constant(each.weights), "f32"), scale)
        total = biased(quantized, weights, each.bias, each.stride)
        if each.addend is not None:
            total = ops.add(results[each.addend], total)
        results.append(ops.relu(total) if each.has_relu else total)
    return results[-1]


def _steps(network: Network) -> list[float]:
    """What a step is worth of the activations that each convolution reads."""
    steps = [network.stem.step, *(each.step for each in network.convolutions)]
    return [steps[each.source] or 0 for each in network.convolutions]


def _distance(head: Head, mean: Any, parameters: Callable[[Any], Any]) -> Any:
    """The score of `training/ood.py`."""
    axes = [ops.constant(np.array(axis, np.int32)) for axis in ([1], 2, 1)]
    square = ops.reduce_sum(ops.multiply(mean, mean), axes[0], keep_dims=True)
    length = ops.power(ops.maximum(square, _as_float32([[head.least_square]])), _as_float32([[-0.5]]))
    turned = _times(ops.multiply(mean, length), parameters(head.directions))
    corners = [ops.constant(np.array(corner, np.int32)) for corner in ([0, 0], [0, 0], [1, 1])]
    spread = ops.strided_slice(turned, *corners, [1, 0], [1, 0], [0, 1], [0, 0], [0, 0])
    away = ops.add(spread, parameters(-head.centres[np.newaxis]))
    squared = ops.reduce_sum(ops.multiply(away, away), axes[1], keep_dims=False)
    least = ops.reduce_min(squared, axes[2], keep_dims=False)
    return ops.multiply(least, _as_float32([head.distance_factor]))


def _times(x: Any, matrix: Any) -> Any:
    return ops.matmul(x, matrix, transpose_a=False, transpose_b=True)


def exactly(network: Network, images: NDArray[np.uint8]) -> Prediction:
    """What the network gives: whole numbers without any rounding, all others in float64.

    float64 holds every sum of the whole numbers here.
    """
    stem, head = network.stem, network.head
    pixels = images * stem.factor.astype(np.float64) + stem.shift
    results = [np.maximum(_convolved(pixels, stem.weights, 1) + stem.bias, 0)]
    for each, step in zip(network.convolutions, _steps(network), strict=True):
        activations = np.clip(np.rint(results[each.source] / step), 0, 255)
        total = _convolved(activations, each.weights, each.stride) * each.scale + each.bias
        if each.addend is not None:
            total = total + results[each.addend]
        results.append(np.maximum(total, 0) if each.has_relu else total)
    mean = results[-1].mean(axis=(1, 2))
    logits = mean @ head.weights.T.astype(np.float64) + head.bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    length = np.sqrt(np.maximum(np.square(mean).sum(axis=1, keepdims=True), head.least_square))
    turned = mean / length @ head.directions.T.astype(np.float64)
    squared = np.square(turned[:, np.newaxis] - head.centres).sum(axis=2)
    return Prediction(
        (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32),
        (squared.min(axis=1) * head.distance_factor).astype(np.float32),
    )


def _convolved(x: NDArray[Any], weights: NDArray[Any], stride: int) -> Floats:
    """[N, H, W, in] by [out, in, size, size], padded as "same_upper" says: what is odd, behind."""
    size = weights.shape[-1]
    missing = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in x.shape[1:3]]
    x = np.pad(x, [(0, 0), *((each // 2, each - each // 2) for each in missing), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    count, height, width, *_ = windows.shape
    products: Floats = windows.reshape(count * height * width, -1) @ weights.reshape(
        len(weights), -1
    ).T.astype(float)
    return products.reshape(count, height, width, -1)
