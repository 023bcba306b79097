"""A residual network of 8-bit integers, as published for OpenVINO, read without it.

That is what `training/quantization.py` writes for the networks of `training/resnet.py`: a convolution of the
pixels in floats; convolutions of activations in 256 steps with weights of 8 bits, each with a bias, some with
a sum that is added, then ReLU; the mean over all places; classes, and the distance to their centres
(`training/ood.py`). Everything else is refused: it is for an engine that runs any graph.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from app.errors import EngineUnavailableError

Floats = NDArray[np.float32]

_TYPES: Final = {"f32": np.float32, "f16": np.float16, "i8": np.int8, "i32": np.int32, "i64": np.int64}
_STEPS: Final = 255  # between the least and the largest activation
_COLOURS: Final = 3
# How [pictures, features] becomes [pictures, 1, features], whatever the bounds of the slice are.
_AXIS_BETWEEN: Final = {
    "begin_mask": "1,0",
    "end_mask": "1,0",
    "new_axis_mask": "0,1",
    "shrink_axis_mask": "0,0",
    "ellipsis_mask": "0,0",
}
# What comes of a file that is no such network, or no longer.
_DAMAGED: Final = (
    *(expat.ExpatError, LookupError, OverflowError, RecursionError),
    *(StopIteration, TypeError, ValueError),
)


@dataclass(frozen=True, slots=True, eq=False)
class Stem:
    """The convolution of the pixels, which are first multiplied by `factor` [3], then shifted by `shift` [3].

    `weights` are [out, 3, 3, 3]; `step` is what one step of the activations that come out is worth, None if
    nobody reads them.
    """

    factor: Floats
    shift: Floats
    weights: Floats
    bias: Floats
    step: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """One of 8-bit integers. `weights` are int8 [out, in, kernel, kernel], `scale` and `bias` float32 [out].

    Results are numbered: the stem's is 0, that of the first convolution 1, and so on. `source` is the result
    whose activations it reads, `addend` the one whose sums it adds before the ReLU. `step` is what one step
    of its own activations is worth, None if nobody reads them.
    """

    weights: NDArray[np.int8]
    scale: Floats
    bias: Floats
    stride: int
    source: int
    addend: int | None
    has_relu: bool
    step: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Classes, `weights` [K, F] and `bias` [K], of the mean over all places of the last result.

    The distance is that from the nearest of `centres` [K, F] to `directions` [F, F] times the mean, of which
    the squared length counts as `least_square` at least; squared, and times `distance_factor`.
    """

    weights: Floats
    bias: Floats
    directions: Floats
    centres: Floats
    least_square: float
    distance_factor: float


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """For pictures of `height` x `width`."""

    height: int
    width: int
    stem: Stem
    convolutions: tuple[Convolution, ...]
    head: Head


def read(path: Path) -> Network:
    """The network in an XML file of OpenVINO's, with its weights in the `.bin` beside it.

    Raises:
        EngineUnavailableError: it is another kind of network, or cannot be read.
    """
    try:
        graph = _Graph.parsed(path.read_bytes(), path.with_suffix(".bin").read_bytes())
        return _Reader(graph).network()
    except OSError as error:
        raise EngineUnavailableError(f"{path} cannot be read: {error.strerror}.") from error
    except _OtherError as error:
        raise EngineUnavailableError(f"{path} is no network that is computed here: {error}.") from error
    except _DAMAGED as error:
        raise EngineUnavailableError(f"{path} is no network that is computed here, or is damaged.") from error


class _OtherError(Exception):
    """What the network has that is not computed here."""


@dataclass(slots=True)
class _Layer:
    kind: str
    data: dict[str, str] = field(default_factory=dict)
    sources: dict[int, str] = field(default_factory=dict)  # layer by port

    def inputs(self) -> list[str]:
        return [self.sources[port] for port in sorted(self.sources)]


class _Graph:
    """Layers by name, in an order in which each comes after what it reads."""

    def __init__(self, layers: dict[str, _Layer], weights: bytes) -> None:
        self._weights = weights
        self._layers = layers
        self._users: dict[str, list[str]] = defaultdict(list)
        for name, layer in layers.items():
            for source in layer.inputs():
                self._users[source].append(name)

    @classmethod
    def parsed(cls, xml: bytes, weights: bytes) -> "_Graph":
        layers: dict[str, _Layer] = {}
        latest = [_Layer("")]

        def start(name: str, attributes: dict[str, str]) -> None:
            if name == "layer":
                latest[0] = layers[attributes["id"]] = _Layer(attributes["type"])
            elif name == "data":
                latest[0].data = attributes
            elif name == "edge":
                port = int(attributes["to-port"])
                layers[attributes["to-layer"]].sources[port] = attributes["from-layer"]

        parser = expat.ParserCreate()
        parser.StartElementHandler = start
        parser.Parse(xml, True)
        places = {name: place for place, name in enumerate(layers)}
        if any(places[each] >= places[name] for name, layer in layers.items() for each in layer.inputs()):
            raise _OtherError("a layer reads one that comes after it")
        return cls(layers, weights)

    def of_kind(self, kind: str) -> list[str]:
        return [name for name, layer in self._layers.items() if layer.kind == kind]

    def kind(self, name: str) -> str:
        return self._layers[name].kind

    def data(self, name: str) -> dict[str, str]:
        return self._layers[name].data

    def inputs(self, name: str, kind: str) -> list[str]:
        """What this layer reads, which has to be of this kind."""
        if self.kind(name) != kind:
            raise _OtherError(f"a {self.kind(name)} stands where a {kind} is expected")
        return self._layers[name].inputs()

    def users(self, name: str, kind: str) -> list[str]:
        """Those of this kind that read it."""
        return [user for user in self._users[name] if self.kind(user) == kind]

    def user(self, name: str, kind: str) -> str:
        """The only one that reads it, which has to be of this kind."""
        if len(self._users[name]) != 1 or self.kind(self._users[name][0]) != kind:
            kinds = ", ".join(map(self.kind, self._users[name])) or "nothing"
            raise _OtherError(f"a {self.kind(name)} is read by {kinds} and not by one {kind}")
        return self._users[name][0]

    def operand(self, name: str, kind: str, other_than: str) -> str:
        """The second thing that a layer of two inputs reads."""
        first, second = self.inputs(name, kind)
        return second if first == other_than else first

    def is_constant(self, name: str) -> bool:
        return self.kind(name) == "Const" or (
            self.kind(name) in {"Convert", "Multiply"}
            and all(map(self.is_constant, self._layers[name].inputs()))
        )

    def stored(self, name: str) -> NDArray[np.generic]:
        """A constant as it lies in the file, whatever converts it."""
        if self.kind(name) == "Convert":
            (name,) = self._layers[name].inputs()
        if self.kind(name) != "Const":
            raise _OtherError(f"a {self.kind(name)} stands where a constant is expected")
        data = self.data(name)
        shape = [int(size) for size in data["shape"].split(",") if size.strip()]
        kind = np.dtype(_TYPES[data["element_type"]])
        return np.frombuffer(self._weights, kind, int(np.prod(shape)), int(data["offset"])).reshape(shape)

    def floats(self, name: str) -> Floats:
        return self.stored(name).astype(np.float32)

    def integers(self, name: str) -> NDArray[np.int8]:
        """A constant of 8-bit integers, as it lies in the file."""
        values = self.stored(name)
        if values.dtype != np.int8:
            raise _OtherError(f"a convolution has weights of {values.dtype}")
        return values.astype(np.int8, copy=False)

    def number(self, name: str) -> float:
        """A constant of one element."""
        values = self.floats(name)
        if values.size != 1:
            raise _OtherError(f"a constant has {values.size} values where one is expected")
        return float(values.reshape(()))


class _Reader:
    """Follows the network from its convolutions."""

    def __init__(self, graph: _Graph) -> None:
        self._graph = graph
        self._results: dict[str, int] = {}  # the number of a result, by the layer whose values it is

    def network(self) -> Network:
        first, *others = self._graph.of_kind("Convolution") or [""]
        if not others:
            raise _OtherError("it has no convolutions")
        height, width = self._size()
        stem = self._stem(first)
        convolutions = tuple(self._convolution(name, number) for number, name in enumerate(others, start=1))
        return Network(height, width, stem, convolutions, self._head(len(others)))

    def _size(self) -> tuple[int, int]:
        (parameter,) = self._graph.of_kind("Parameter")
        data = self._graph.data(parameter)
        _, height, width, colours = (size.strip() for size in data["shape"].split(","))
        if data["element_type"] != "u8" or int(colours) != _COLOURS:
            raise _OtherError("its input is not pixels of 8 bits")
        return int(height), int(width)

    def _stem(self, name: str) -> Stem:
        graph = self._graph
        pixels, kernel = graph.inputs(name, "Convolution")
        weights = graph.floats(kernel)
        self._check_window(name, weights.shape)
        if weights.shape[1:] != (_COLOURS, 3, 3) or self._stride(name) != 1:
            raise _OtherError("its first convolution is not 3x3 over all pixels")
        factor, shift = np.ones(_COLOURS, np.float32), np.zeros(_COLOURS, np.float32)
        for layer in reversed(list(self._steps_from_pixels(pixels))):
            constant = next(filter(graph.is_constant, graph.inputs(layer, graph.kind(layer))))
            by = np.broadcast_to(graph.floats(constant).reshape(-1), _COLOURS)
            if graph.kind(layer) == "Multiply":
                factor, shift = factor * by, shift * by
            else:
                shift = shift + by
        bias, total = self._biased(name)
        result = graph.user(total, "ReLU")
        self._results[result] = 0
        return Stem(factor, shift, weights, bias, self._step(result))

    def _steps_from_pixels(self, name: str) -> Iterator[str]:
        """What scales and shifts the pixels, the last first."""
        while (kind := self._graph.kind(name)) != "Parameter":
            if kind in {"Multiply", "Add"}:
                yield name
            elif kind == "Transpose":
                self._check_transposed(name)
            elif kind != "Convert":
                raise _OtherError(f"its pixels go through a {kind}")
            name, *_ = (each for each in self._graph.inputs(name, kind) if not self._graph.is_constant(each))

    def _check_transposed(self, name: str) -> None:
        """Colours become the second axis, once."""
        _, order = self._graph.inputs(name, "Transpose")
        if self._graph.stored(order).tolist() != [0, 3, 1, 2] or len(self._graph.of_kind("Transpose")) > 1:
            raise _OtherError("its pixels are put in another order")

    def _convolution(self, name: str, number: int) -> Convolution:
        graph = self._graph
        steps, kernel = graph.inputs(name, "Convolution")
        read, *_ = graph.inputs(steps, "FakeQuantize")
        integers, scale = graph.inputs(kernel, "Multiply")
        weights = graph.integers(integers)
        self._check_window(name, weights.shape)
        bias, total = self._biased(name)
        addend, has_relu = None, True
        if graph.users(total, "Add"):
            together = graph.user(total, "Add")
            addend = self._results.get(graph.operand(together, "Add", total))
            # The one that comes first is kept as it is, and the other adds it.
            has_relu = addend is not None
            total = together if has_relu else total
        result = graph.user(total, "ReLU") if has_relu else total
        self._results[result] = number
        step = self._step(result)
        weight_scale = np.broadcast_to(graph.floats(scale).reshape(-1), len(weights))
        return Convolution(
            weights=weights,
            scale=np.float32(self._step_of(steps)) * weight_scale,
            bias=bias,
            stride=self._stride(name),
            source=self._results[read],
            addend=addend,
            has_relu=has_relu,
            step=step,
        )

    def _biased(self, name: str) -> tuple[Floats, str]:
        """The bias of a convolution, and the layer that adds it."""
        total = self._graph.user(name, "Add")
        return self._graph.floats(self._graph.operand(total, "Add", name)).reshape(-1), total

    def _stride(self, name: str) -> int:
        first, second = (int(size) for size in self._graph.data(name)["strides"].split(","))
        if first != second or first not in {1, 2}:
            raise _OtherError(f"a convolution has the strides {first} and {second}")
        return first

    def _check_window(self, name: str, shape: tuple[int, ...]) -> None:
        data = self._graph.data(name)
        _, _, height, width = shape
        if data["auto_pad"] != "same_upper" or data["dilations"].replace(" ", "") != "1,1":
            raise _OtherError("a convolution is dilated, or padded in another way")
        if height != width or height not in {1, 3}:
            raise _OtherError(f"a convolution has a window of {height} x {width}")

    def _step(self, result: str) -> float | None:
        """What a step of the activations of a result is worth, None if nobody reads them."""
        steps = {self._step_of(user) for user in self._graph.users(result, "FakeQuantize")}
        if len(steps) > 1:
            raise _OtherError("activations are quantised in two ways")
        return steps.pop() if steps else None

    def _step_of(self, name: str) -> float:
        _, *bounds = self._graph.inputs(name, "FakeQuantize")
        low, high, out_low, out_high = map(self._graph.number, bounds)
        if (low, out_low, out_high) != (0, 0, high) or int(self._graph.data(name)["levels"]) != _STEPS + 1:
            raise _OtherError("activations are not quantised in 256 steps from 0")
        return high / _STEPS

    def _head(self, last: int) -> Head:
        graph = self._graph
        (mean,) = graph.of_kind("ReduceMean")
        if self._results.get(self._over(mean, "ReduceMean", [2, 3])) != last:
            raise _OtherError("its mean is not that of the last convolution")
        classes, *_ = [*graph.users(mean, "MatMul"), ""]
        weights, name = self._product(classes, mean), classes
        bias = np.zeros(len(weights), np.float32)
        if graph.data(graph.of_kind("SoftMax")[0])["axis"] not in {"1", "-1"}:
            raise _OtherError("its probabilities are not those of the classes of a picture")
        while not graph.users(name, "SoftMax"):
            (name,) = [*graph.users(name, "Multiply"), *graph.users(name, "Add")]
            constant, _ = sorted(graph.inputs(name, graph.kind(name)), key=graph.is_constant, reverse=True)
            by = graph.floats(constant).reshape(-1)
            if graph.kind(name) == "Multiply":
                weights, bias = weights * by.reshape(-1, 1), bias * by
            else:
                bias = bias + by
        return self._distance(mean, weights.astype(np.float32), bias.astype(np.float32))

    def _over(self, name: str, kind: str, axes: list[int]) -> str:
        """What a layer sums, averages or takes the least of, over these axes."""
        values, given = self._graph.inputs(name, kind)
        if sorted(self._graph.stored(given).reshape(-1).tolist()) != axes:
            raise _OtherError(f"a {kind} is taken over other axes")
        return values

    def _product(self, name: str, of: str) -> Floats:
        """The constant by whose rows a layer multiplies."""
        data = self._graph.data(name)
        values = self._graph.floats(self._graph.operand(name, "MatMul", of))
        if data.get("transpose_a") == "true" or values.ndim != 2:
            raise _OtherError("a product is not one by a matrix")
        return values if data.get("transpose_b") == "true" else np.ascontiguousarray(values.T)

    def _distance(self, mean: str, weights: Floats, bias: Floats) -> Head:
        """Back from the result, since the way there branches."""
        graph = self._graph
        (least,) = graph.of_kind("ReduceMin")
        scaled = graph.user(least, "Multiply")
        squares = self._over(self._over(least, "ReduceMin", [1]), "ReduceSum", [2])
        away, again = graph.inputs(squares, "Multiply")
        spread, centres = sorted(graph.inputs(away, "Add"), key=graph.is_constant)
        turned, *_ = graph.inputs(spread, "StridedSlice")
        if any(graph.data(spread)[mask].replace(" ", "") != bits for mask, bits in _AXIS_BETWEEN.items()):
            raise _OtherError("a StridedSlice is another than one that adds an axis for the centres")
        unit = next(each for each in graph.inputs(turned, "MatMul") if not graph.is_constant(each))
        inverse = graph.operand(unit, "Multiply", mean)
        bounded, exponent = graph.inputs(inverse, "Power")
        square, floor = sorted(graph.inputs(bounded, "Maximum"), key=graph.is_constant)
        product = self._over(square, "ReduceSum", [1])
        is_square = away == again and set(graph.inputs(product, "Multiply")) == {mean}
        if not is_square or graph.number(exponent) != -0.5:
            raise _OtherError("its distance is another than the one that is computed here")
        return Head(
            weights=weights,
            bias=bias,
            directions=self._product(turned, unit),
            centres=-graph.floats(centres).reshape(len(weights), -1),
            least_square=graph.number(floor),
            distance_factor=graph.number(graph.operand(scaled, "Multiply", least)),
        )
