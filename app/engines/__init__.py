"""What runs a published model. NumPy in, NumPy out; each engine loads its own heavy library.

To add an engine: one file or folder here with a class that is an `Engine` and a `Loader`, and one line in
`_ENGINES`. One that some machines cannot use has a function `is_usable` beside it.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app import processor
from app.errors import EngineError, EngineNotInstalledError, EngineUnavailableError

AUTO: Final = "auto"
# In the folder of a version: the network in 8-bit integers, which two engines compute.
QUANTIZED: Final = Path("openvino", "int8.xml")

_LOG: Final = logging.getLogger(__name__)

# Name -> module and loader, the fastest first; `candidates` moves one where AVX2 is alone. A name that begins
# a group of others stands for all of them.
_ENGINES: Final = {
    "openvino-int8": ("app.engines.openvino", "int8"),
    "openvino-bfloat16": ("app.engines.openvino", "bfloat16"),
    "openvino-float32": ("app.engines.openvino", "float32"),
    "winograd-int8": ("app.engines.winograd", "int8"),
    "tensorflow": ("app.engines.tensorflow", "TensorFlowEngine"),
}
_FASTEST_WITH_AVX2_ALONE: Final = "winograd-int8"
_SLOW_TO_IMPORT: Final = {"app.engines.tensorflow"}


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The answers for N pictures.

    `probabilities` is float32 [N, K], each row summing to 1. `ood_score` is float32 [N], larger for pictures
    that look less like any of the K classes.
    """

    probabilities: NDArray[np.float32]
    ood_score: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: Sequence["Prediction"]) -> "Prediction":
        """Those of several batches in their order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            probabilities=np.concatenate([part.probabilities for part in parts]),
            ood_score=np.concatenate([part.ood_score for part in parts]),
        )


class Engine(Protocol):
    """A loaded model.

    It computes for `concurrency` threads at the same time, and begins with what `ahead` more ask as soon as
    it is done with others; whoever holds it sees to it that no more call it. `batch_sizes` are the sizes that
    it really runs, ascending; others are padded or cut to them.
    """

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def batch_sizes(self) -> tuple[int, ...]: ...

    @property
    def concurrency(self) -> int: ...

    @property
    def ahead(self) -> int: ...

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """The answers for uint8 [N, H, W, 3], N at least 1, each independent of its neighbours.

        Raises:
            EngineError: the library underneath failed.
        """

    def close(self) -> None:
        """Gives back what the model holds; nothing is predicted afterwards."""


Loader = Callable[[Path, int, int], Engine]


def sizes_within(engine: Engine, most: int) -> list[int]:
    """The batch sizes of an engine for which at most `most` pictures are allowed, ascending."""
    return [size for size in engine.batch_sizes if size <= most] or [most]


def predict_all(engine: Engine, images: NDArray[np.uint8], threads: Executor) -> Prediction:
    """`Engine.predict` shared out among `threads`, at most `concurrency` of them.

    For whoever has all pictures at hand; the service, to which they come one by one, has its `Batcher`.
    """
    share = -(-len(images) // engine.concurrency)
    size = max((size for size in engine.batch_sizes if size <= share), default=engine.batch_sizes[0])
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    return Prediction.joined(list(threads.map(engine.predict, parts)))


def names() -> list[str]:
    """What may be asked for: every engine, and the names that stand for several."""
    groups = dict.fromkeys(name.partition("-")[0] for name in _ENGINES)
    return list(dict.fromkeys([AUTO, *groups, *_ENGINES]))


def candidates(name: str) -> tuple[str, ...]:
    """The engines that a name stands for, the fastest first.

    Raises:
        EngineError: there is no such name.
    """
    found = [each for each in _ENGINES if name in (AUTO, each, each.partition("-")[0])]
    if not found:
        raise EngineError(f"There is no engine {name!r}; choose one of: {', '.join(names())}.")
    if processor.has_avx2_alone(processor.flags()):
        found.sort(key=lambda each: each != _FASTEST_WITH_AVX2_ALONE)
    return tuple(found)


def import_quickly(name: str) -> bool:
    """Imports the library of the first engine under this name if that takes no second; whether it does not.

    First is the one that can be used here. One that is missing is told when it is chosen.

    Raises:
        EngineError: there is no such name.
    """
    for candidate in candidates(name):
        module, _ = _ENGINES[candidate]
        if module in _SLOW_TO_IMPORT:
            return False
        with suppress(ImportError):
            is_usable: Callable[[], bool] | None = getattr(import_module(module), "is_usable", None)
            if is_usable is None or is_usable():
                return True
    return True


def choose(name: str, folder: Path, threads: int = 0, streams: int = 0) -> Engine:
    """The fastest engine under this name that can run the model in a version's folder, loaded.

    `threads` is how many cores it may use, 0 for all of them, and `streams` how many batches it computes at
    the same time where it can compute several, 0 for what suits the cores. Engines whose library is not
    installed, whose files were not published, or that this processor does not support are passed over.

    Raises:
        EngineUnavailableError: none is left; if one alone was meant, its own reason.
        EngineError: there is no such name, or an engine cannot load the files that are there for it.
    """
    errors = []
    for candidate in candidates(name):
        try:
            return _load(candidate, folder, threads, streams)
        except EngineUnavailableError as error:
            _LOG.debug("The engine %s is passed over: %s", candidate, error)
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise EngineUnavailableError(" ".join(dict.fromkeys(map(str, errors))))


def _load(name: str, folder: Path, threads: int, streams: int) -> Engine:
    module, attribute = _ENGINES[name]
    try:
        loader: Loader = getattr(import_module(module), attribute)
    except ImportError as error:
        raise EngineNotInstalledError(
            f"The engine {name.partition('-')[0]} needs a package that is missing or broken: "
            f"{error.name or error}. Install this project again, for tensorflow with its extra of that name, "
            f"or choose another of: {', '.join(names())}."
        ) from error
    return loader(folder, threads, streams)
