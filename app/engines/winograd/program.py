"""A network as the kernel computes it: its weights transformed, its results assigned to buffers."""

import ctypes
from collections.abc import Iterator, Sequence
from ctypes import byref, c_int64
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app import parallel
from app.engines.winograd import kernel
from app.engines.winograd.kernel import CHUNK, DIRECT, STRIDED_2, WINOGRAD_2, WINOGRAD_4
from app.engines.winograd.network import Convolution, Network
from app.errors import EngineUnavailableError

# Transformed weights of an input and an output channel, and what the scale of G's rows makes of the sums.
_POINTS: Final = {WINOGRAD_2: 4 * 4, WINOGRAD_4: 6 * 6, STRIDED_2: 4 * 4}
_SCALE: Final = {DIRECT: 1, WINOGRAD_2: 2 * 2, WINOGRAD_4: 24 * 24, STRIDED_2: 1}
_LARGEST_SUM: Final = 2.0**31
_LARGEST_SIDE: Final = 4096  # the kernel counts places in 32 bits
# Results of fewer places than this make too few tiles in one picture to be worth reading the weights for.
_PLACES_ALONE: Final = 128
_REGISTER: Final = 8  # float32 numbers that the kernel computes at the same time


@dataclass(frozen=True, slots=True)
class _Buffer:
    """Memory for one result after another of this shape, for each picture, or for all if it is shared.

    Never for two shapes of the same size: the border of one would lie within the other.
    """

    shape: tuple[int, ...]
    is_shared: bool

    @property
    def size(self) -> int:
        return prod(self.shape)


class Program:
    """What all batches share. `height` and `width` are those of the pictures.

    Raises:
        EngineUnavailableError: the network has sizes that the kernel does not compute.
    """

    def __init__(self, network: Network, threads: int) -> None:
        self._sizes = _sizes(network)
        _check(network, self._sizes)
        self.height, self.width = network.height, network.width
        self.classes = len(network.head.weights)
        self._library = kernel.load()
        self._kept: list[NDArray[Any]] = []  # what the structures point to
        places = [height * width for height, width, _ in self._sizes]
        few = (number for number, count in enumerate(places[1:]) if count < _PLACES_ALONE)
        self._alone = next(few, len(places) - 1)
        self._assign(network)
        packing = [partial(self._convolution, network, number) for number in range(1, len(places))]
        convolutions = parallel.run(packing, threads)
        self._stem, self._head = self._stem_of(network), self._head_of(network, places[-1])
        self._convolutions = (kernel.Convolution * len(convolutions))(*convolutions)
        self.network = kernel.Network(
            ctypes.pointer(self._stem),
            self._convolutions,
            len(convolutions),
            self._alone,
            ctypes.pointer(self._head),
        )

    def scratch(self) -> tuple[kernel.Scratch, list[NDArray[Any]]]:
        """Memory for one thread, and the arrays that it consists of."""
        needs = zip(*map(self._workspace, self._convolutions), strict=True)
        values, weights, products = map(max, needs)
        arrays = [
            kernel.zeros(values, np.int16),
            kernel.zeros(weights, np.int16),
            kernel.zeros(products, np.int32),
            kernel.zeros((self.height + 2) * (self.width + 2) * 3, np.float32),
            kernel.zeros(2 * self._head.features, np.float32),
        ]
        return kernel.Scratch(*(array.ctypes.data for array in arrays)), arrays

    def buffers(self, pictures: int) -> tuple[kernel.Buffers, list[NDArray[Any]]]:
        """Memory for the results of so many pictures, and the arrays that it consists of."""
        made, arrays = kernel.Buffers(), []
        for pointers, steps, buffers, kind in (
            (made.activations, made.activation_steps, self._activations, np.uint8),
            (made.sums, made.sum_steps, self._sums, np.float32),
        ):
            for slot, buffer in enumerate(buffers):
                array = kernel.zeros(buffer.size * (1 if buffer.is_shared else pictures), kind)
                pointers[slot] = array.ctypes.data
                steps[slot] = 0 if buffer.is_shared else buffer.size
                arrays.append(array)
        return made, arrays

    def _assign(self, network: Network) -> None:
        """Gives activations and sums their buffers, those of a result that is no longer needed again."""
        convolutions, last = network.convolutions, len(network.convolutions)
        read_until, added_until = [-1] * (last + 1), [-1] * last + [last + 1]
        for number, each in enumerate(convolutions, start=1):
            read_until[each.source] = number
            if each.addend is not None:
                added_until[each.addend] = number
        bordered = [(height + 2, width + 2, channels) for height, width, channels in self._sizes]
        self._output, self._activations = self._slots(bordered, read_until, in_place=False)
        self._sum, self._sums = self._slots(self._sizes, added_until, in_place=True)

    def _slots(
        self, shapes: Sequence[tuple[int, ...]], until: Sequence[int], *, in_place: bool
    ) -> tuple[list[int], list[_Buffer]]:
        """The slot of each result, -1 for what nobody needs, and the buffers by slot.

        `until` is the last convolution that needs a result; `in_place` lets that one write its own there.
        """
        slots, buffers, free_from = [], list[_Buffer](), list[int]()
        for number, (shape, last) in enumerate(zip(shapes, until, strict=True)):
            if last < 0:
                slots.append(-1)
                continue
            wanted = _Buffer(shape, is_shared=last <= self._alone)
            free = (
                slot
                for slot, buffer in enumerate(buffers)
                if buffer == wanted and free_from[slot] <= number - (not in_place)
            )
            slot = next(free, len(buffers))
            if slot == len(buffers):
                buffers.append(wanted)
                free_from.append(last)
            free_from[slot] = last
            slots.append(slot)
        if len(buffers) > kernel.MOST_BUFFERS:
            raise EngineUnavailableError(f"The network needs {len(buffers)} buffers.")
        return slots, buffers

    def _convolution(self, network: Network, number: int) -> kernel.Convolution:
        of = network.convolutions[number - 1]
        in_height, in_width, in_channels = self._sizes[of.source]
        height, width, channels = self._sizes[number]
        form, weights = self._packed(of, height, width)
        return kernel.Convolution(
            form=form,
            kernel=of.weights.shape[-1],
            stride=of.stride,
            in_channels=in_channels,
            out_channels=channels,
            in_height=in_height,
            in_width=in_width,
            out_height=height,
            out_width=width,
            input=self._output[of.source],
            output=self._output[number],
            addend=-1 if of.addend is None else self._sum[of.addend],
            kept=self._sum[number],
            has_relu=of.has_relu,
            weights=weights,
            taps=self._taps(of) if form != DIRECT and height * width < _PLACES_ALONE else None,
            scale=self._pointer(of.scale / _SCALE[form]),
            bias=self._pointer(of.bias),
            steps_per_unit=_inverse(of.step),
        )

    def _packed(self, of: Convolution, height: int, width: int) -> tuple[int, int]:
        """The form with the fewest multiplications whose sums are exact, and where its weights are."""
        out, depth, size, _ = of.weights.shape
        weights = np.ascontiguousarray(of.weights)
        for form in _forms(of, height, width):
            packed = kernel.zeros(_POINTS.get(form, size * size) * out * depth, np.int16)
            most = self._library.pack(weights.ctypes.data, out, depth, size, form, packed.ctypes.data)
            if most < _LARGEST_SUM:
                self._kept.append(packed)
                return form, packed.ctypes.data
        raise EngineUnavailableError(f"The sums of a convolution of {depth} channels do not fit 32 bits.")

    def _taps(self, of: Convolution) -> int:
        out, depth, *_ = of.weights.shape
        weights, packed = np.ascontiguousarray(of.weights), kernel.zeros(of.weights.size, np.int8)
        self._library.pack_taps(weights.ctypes.data, out, depth, packed.ctypes.data)
        self._kept.append(packed)
        return int(packed.ctypes.data)

    def _stem_of(self, network: Network) -> kernel.Stem:
        stem = network.stem
        taps = stem.weights.transpose(2, 3, 1, 0).reshape(-1, len(stem.bias) // _REGISTER, _REGISTER)
        return kernel.Stem(
            height=self.height,
            width=self.width,
            out_channels=len(stem.bias),
            output=self._output[0],
            kept=self._sum[0],
            factor=self._pointer(stem.factor),
            shift=self._pointer(stem.shift),
            weights=self._pointer(taps.transpose(1, 0, 2)),
            bias=self._pointer(stem.bias),
            steps_per_unit=_inverse(stem.step),
        )

    def _head_of(self, network: Network, places: int) -> kernel.Head:
        head = network.head
        return kernel.Head(
            input=self._sum[-1],
            places=places,
            features=head.weights.shape[1],
            classes=self.classes,
            weights=self._pointer(head.weights),
            bias=self._pointer(head.bias),
            directions=self._pointer(head.directions),
            centres=self._pointer(head.centres),
            least_square=head.least_square,
            distance_factor=head.distance_factor,
        )

    def _pointer(self, values: NDArray[Any]) -> int:
        array = kernel.aligned(np.asarray(values, np.float32))
        self._kept.append(array)
        return int(array.ctypes.data)

    def _workspace(self, convolution: kernel.Convolution) -> tuple[int, int, int]:
        values, weights, products = c_int64(), c_int64(), c_int64()
        self._library.workspace(byref(convolution), byref(values), byref(weights), byref(products))
        return values.value, weights.value, products.value


def _inverse(step: float | None) -> float:
    return 1 / step if step else 0


def _sizes(network: Network) -> list[tuple[int, int, int]]:
    """Height, width and channels of every result."""
    sizes = [(network.height, network.width, len(network.stem.bias))]
    for each in network.convolutions:
        height, width, _ = sizes[each.source]
        sizes.append((height // each.stride, width // each.stride, len(each.bias)))
    return sizes


def _forms(of: Convolution, height: int, width: int) -> Iterator[int]:
    """Those that can compute it, the ones with the fewest multiplications first.

    Of a result of 4 x 4, a tile in the form of F(4x4) is all there is: its weights, four times as large as
    those of the plain form, would be read for too little.
    """
    if of.weights.shape[-1] == 3 and of.stride == 1:
        if height % 4 == width % 4 == 0 and height * width > 4 * 4:
            yield WINOGRAD_4
        if height % 2 == width % 2 == 0:
            yield WINOGRAD_2
    if of.weights.shape[-1] == 3 and of.stride == 2 and height % 2 == width % 2 == 0:
        yield STRIDED_2
    yield DIRECT


def _check(network: Network, sizes: Sequence[tuple[int, int, int]]) -> None:
    """That the kernel's loops come out even.

    Raises:
        EngineUnavailableError: they would not.
    """
    for number, each in enumerate(network.convolutions, start=1):
        height, width, channels = sizes[each.source]
        if each.weights.shape[1] != channels or len(each.bias) % CHUNK or channels % CHUNK:
            raise EngineUnavailableError(f"A convolution has channels that are no multiple of {CHUNK}.")
        if each.stride == 2 and (height % 2 or width % 2):
            raise EngineUnavailableError(f"A convolution of stride 2 has results of {height} x {width}.")
        if each.addend is not None and sizes[each.addend] != sizes[number]:
            raise EngineUnavailableError("Results of different sizes are added.")
        if {len(each.scale), len(each.bias)} != {len(each.weights)}:
            raise EngineUnavailableError("A convolution has not one bias and one scale for each channel.")
    _check_ends(network, features=sizes[-1][-1])


def _check_ends(network: Network, features: int) -> None:
    stem, head, classes = network.stem, network.head, len(network.head.weights)
    if not (0 < network.height <= _LARGEST_SIDE and 0 < network.width <= _LARGEST_SIDE):
        raise EngineUnavailableError(f"Pictures of {network.height} x {network.width} are not computed.")
    if stem.weights.shape != (len(stem.bias), 3, 3, 3):
        raise EngineUnavailableError("The first convolution has not one bias for each channel.")
    shapes = head.weights.shape, head.centres.shape, head.directions.shape, head.bias.shape
    if not classes or shapes != (
        (classes, features),
        (classes, features),
        (features, features),
        (classes,),
    ):
        raise EngineUnavailableError(f"What follows the mean of {features} features has other sizes.")
