"""What runs a published model. NumPy in, NumPy out; each engine loads its own heavy library.

To add an engine: one file here with a class that is an `Engine` and a `Loader`, and one line in `_ENGINES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import EngineError

AUTO: Final = "auto"

# Name -> module and class, the fastest first: the order in which "auto" tries them.
_ENGINES: Final = {
    "tensorflow": ("app.engines.tensorflow", "TensorFlowEngine"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The answers for N pictures.

    `probabilities` is float32 [N, K], each row summing to 1. `ood_score` is float32 [N], larger for pictures
    that look less like any of the K classes.
    """

    probabilities: NDArray[np.float32]
    ood_score: NDArray[np.float32]


class Engine(Protocol):
    """A loaded model. Not for several threads at once: whoever holds it calls it from one thread at a time.

    `batch_sizes` are the sizes that it really runs, ascending; others are padded or cut to them.
    """

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def batch_sizes(self) -> tuple[int, ...]: ...

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """The answers for uint8 [N, H, W, 3], N at least 1, each independent of its neighbours.

        Raises:
            EngineError: the library underneath failed.
        """

    def close(self) -> None:
        """Gives back what the model holds; nothing is predicted afterwards."""


Loader = Callable[[Path, int], Engine]


def names() -> list[str]:
    """What may be asked for, "auto" included."""
    return [AUTO, *_ENGINES]


def choose(name: str, folder: Path, threads: int = 0) -> Engine:
    """Loads the model in a version's folder; `threads` is how many cores it may use, 0 for all of them.

    Raises:
        EngineError: there is no such engine, its library is not installed, or it cannot run these files.
    """
    if name == AUTO:
        name = next(iter(_ENGINES))
    if name not in _ENGINES:
        raise EngineError(f"There is no engine {name!r}; choose one of: {', '.join(names())}.")
    module, attribute = _ENGINES[name]
    try:
        loader: Loader = getattr(import_module(module), attribute)
    except ImportError as error:
        raise EngineError(
            f"The engine {name} needs a package that is not installed: {error.name}. Install this project "
            f"with its extra [{name}], or choose another of: {', '.join(names())}."
        ) from error
    return loader(folder, threads)
