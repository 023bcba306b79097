"""The engine for processors that have AVX2 and nothing made for networks, as most that are older than 2021.

It computes the int8 file that was published for OpenVINO, with a quarter to half of its multiplications
(`kernel.c` says how), and needs no library beside it. Processors that multiply 8-bit integers in one step
(VNNI) are better served by OpenVINO, which uses that.
"""

import weakref
from ctypes import byref
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app import processor
from app.cores import available_cores
from app.engines import QUANTIZED, Loader, Prediction
from app.engines.lending import Lending, concurrency
from app.engines.winograd import kernel
from app.engines.winograd.network import read
from app.engines.winograd.program import Program
from app.errors import EngineError, EngineUnavailableError

_LARGEST: Final = 8
# Cores that share a lone picture; more of them wait for each other longer than they compute.
_MOST_TOGETHER: Final = 4
_NEEDED: Final = frozenset({"avx2", "fma"})


class WinogradEngine:
    """Computes a batch on each core, and a lone picture that nobody competes with on all of them.

    As `app/engines/openvino.py` does, and for the same reasons. A batch of any size takes what its pictures
    take; more than eight bring no more a second, and each of them would wait longer.
    """

    name = "winograd"
    precision = "int8"
    batch_sizes = tuple(range(1, _LARGEST + 1))
    ahead = 1

    def __init__(self, folder: Path, threads: int = 0, streams: int = 0) -> None:
        """Loads the int8 file in `folder`, on at most `threads` cores (0 for all there are).

        They share `streams` batches, at most one for each core (0 for that, up to eight).

        Raises:
            EngineUnavailableError: no such file was published, it is another kind of network, the processor
                lacks AVX2, or the kernel was not compiled.
            EngineError: the file cannot be read, or there are no threads for it.
        """
        library = _library()
        path = folder / QUANTIZED
        if not path.is_file():
            raise EngineUnavailableError(f"The version in {folder} was published without {path.name}.")
        cores = threads or available_cores()
        self.concurrency = concurrency(cores, streams)
        program = Program(read(path), cores)
        self._shape = (program.height, program.width, 3)
        together = min(cores, _MOST_TOGETHER)
        crew = library.crew_begin(self.concurrency, together, program.network.count)
        if not crew:
            raise EngineError(f"There are no {together} threads for the engine winograd.")
        self._crew = crew
        end_crew = weakref.finalize(self, library.crew_end, crew)
        end_crew.atexit = False  # threads may be computing
        # These alone hold the weights: what is closed may be remembered by somebody for long.
        beside = [_Batch(program) for _ in range(self.concurrency + self.ahead)]
        self._memory: Lending[_Alone | _Batch] = Lending(_Alone(program, together), beside, end_crew)

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """See `Engine.predict`."""
        if images.shape[1:] != self._shape:
            wanted = " x ".join(map(str, self._shape))
            raise EngineError(f"Pictures of shape {list(images.shape[1:])} are not {wanted}.")
        images = np.ascontiguousarray(images)
        with self._memory.lent(len(images)) as memory:
            parts = [
                memory.run(self._crew, images[start : start + _LARGEST])
                for start in range(0, len(images), _LARGEST)
            ]
        return Prediction.joined(parts)

    def close(self) -> None:
        """See `Engine.close`."""
        self._memory.close()


int8: Loader = WinogradEngine


def is_usable() -> bool:
    """Whether it was compiled, and the processor has what it needs."""
    try:
        _library()
    except EngineUnavailableError:
        return False
    return True


def _library() -> Any:
    if missing := _NEEDED - processor.flags():
        raise EngineUnavailableError(f"This processor has no {' and no '.join(sorted(missing))}.")
    return kernel.load()


class _Batch:
    """Memory in which one core computes a batch."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._buffers, *kept = program.buffers(_LARGEST)
        self._scratch, *also_kept = program.scratch()
        self._kept = kept, also_kept

    def run(self, crew: int, images: NDArray[np.uint8]) -> Prediction:
        answer = _empty(len(images), self._program.classes)
        kernel.load().classify(
            crew,
            byref(self._program.network),
            byref(self._buffers),
            byref(self._scratch),
            images.ctypes.data,
            len(images),
            answer.probabilities.ctypes.data,
            answer.ood_score.ctypes.data,
        )
        return answer


class _Alone:
    """Memory in which several cores compute one picture."""

    def __init__(self, program: Program, cores: int) -> None:
        self._program = program
        self._buffers, *kept = program.buffers(1)
        made = [program.scratch() for _ in range(cores)]
        self._scratches = (kernel.Scratch * cores)(*(scratch for scratch, _ in made))
        self._kept = kept, [arrays for _, arrays in made]

    def run(self, crew: int, images: NDArray[np.uint8]) -> Prediction:
        answer = _empty(1, self._program.classes)
        kernel.load().classify_alone(
            crew,
            byref(self._program.network),
            byref(self._buffers),
            self._scratches,
            images.ctypes.data,
            answer.probabilities.ctypes.data,
            answer.ood_score.ctypes.data,
        )
        return answer


def _empty(count: int, classes: int) -> Prediction:
    return Prediction(np.empty((count, classes), np.float32), np.empty(count, np.float32))
