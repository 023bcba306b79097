"""The functions and structures of `kernel.c`, for Python. Calls leave Python's lock to other threads."""

import ctypes
import mmap
from contextlib import suppress
from ctypes import POINTER, Structure, c_double, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.engines.winograd.build import library
from app.errors import EngineUnavailableError

CHUNK: Final = 32
MOST_BUFFERS: Final = 32

DIRECT, WINOGRAD_2, WINOGRAD_4, STRIDED_2 = range(4)  # the forms of a convolution


class Convolution(Structure):
    _fields_ = (
        *((name, c_int32) for name in ("form", "kernel", "stride", "in_channels", "out_channels")),
        *((name, c_int32) for name in ("in_height", "in_width", "out_height", "out_width")),
        *((name, c_int32) for name in ("input", "output", "addend", "kept", "has_relu")),
        *((name, c_void_p) for name in ("weights", "taps", "scale", "bias")),
        ("steps_per_unit", c_float),
    )


class Stem(Structure):
    _fields_ = (
        *((name, c_int32) for name in ("height", "width", "out_channels", "output", "kept")),
        *((name, c_void_p) for name in ("factor", "shift", "weights", "bias")),
        ("steps_per_unit", c_float),
    )


class Head(Structure):
    _fields_ = (
        *((name, c_int32) for name in ("input", "places", "features", "classes")),
        *((name, c_void_p) for name in ("weights", "bias", "directions", "centres")),
        *((name, c_float) for name in ("least_square", "distance_factor")),
    )


class Network(Structure):
    _fields_ = (
        ("stem", POINTER(Stem)),
        ("convolutions", POINTER(Convolution)),
        ("count", c_int32),
        ("alone", c_int32),
        ("head", POINTER(Head)),
    )


class Buffers(Structure):
    _fields_ = (
        ("activations", c_void_p * MOST_BUFFERS),
        ("sums", c_void_p * MOST_BUFFERS),
        ("activation_steps", c_int64 * MOST_BUFFERS),
        ("sum_steps", c_int64 * MOST_BUFFERS),
    )


class Scratch(Structure):
    _fields_ = tuple((name, c_void_p) for name in ("values", "weights", "products", "pixels", "features"))


@cache
def load() -> Any:
    """The library, with what its functions take and return.

    Raises:
        EngineUnavailableError: it was not built from this source, or cannot be loaded here.
    """
    path = library()
    if not path.is_file():
        raise EngineUnavailableError(
            "The engine winograd was not compiled: install gcc and run python app/engines/winograd/build.py."
        )
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise EngineUnavailableError(f"The engine winograd cannot be loaded here: {error}.") from error
    loaded.crew_begin.argtypes = [c_int] * 3
    loaded.crew_begin.restype = c_void_p
    loaded.crew_end.argtypes = [c_void_p]
    loaded.crew_end.restype = None
    loaded.classify.argtypes = [c_void_p] * 5 + [c_int] + [c_void_p] * 2
    loaded.classify.restype = None
    loaded.classify_alone.argtypes = [c_void_p] * 7
    loaded.classify_alone.restype = None
    loaded.workspace.argtypes = [POINTER(Convolution)] + [POINTER(c_int64)] * 3
    loaded.workspace.restype = None
    loaded.pack.argtypes = [c_void_p] + [c_int] * 4 + [c_void_p]
    loaded.pack.restype = c_double
    loaded.pack_taps.argtypes = [c_void_p] + [c_int] * 2 + [c_void_p]
    loaded.pack_taps.restype = None
    return loaded


def zeros(count: int, kind: type[np.generic]) -> NDArray[Any]:
    """An array of its own pages, large ones where the system has them.

    So the kernel may read and write whole registers, and what an engine held is given back when it is closed:
    the allocator keeps arrays of such sizes for others, which come from other threads.
    """
    size = max(1, count * np.dtype(kind).itemsize)
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # some systems are built without
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, kind, count)


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """A copy like that, flat."""
    copy = zeros(values.size, values.dtype.type)
    copy[:] = values.reshape(-1)
    return copy
