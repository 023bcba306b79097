"""One version in memory: its engine, its queue, and who still needs it."""

import asyncio
import logging
import threading
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.batching import Batcher
from app.engines import Engine, Prediction, sizes_within
from app.errors import EngineError, OverloadedError
from app.lane import Result
from app.manifest import Manifest
from app.metrics import Metrics
from app.repository import Version

_LOG: Final = logging.getLogger(__name__)
LATE_S: Final = 30.0
_SUM_TOLERANCE: Final = 1e-3


class State(StrEnum):
    """What a version, or the service as a whole, is doing; only versions are merely `AVAILABLE`, on disk."""

    AVAILABLE = "available"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Model:
    """One version with its engine and its queue; `fallback` says why it is not on a faster engine."""

    def __init__(
        self,
        version: Version,
        engine: Engine,
        *,
        max_batch: int,
        max_queued: int,
        metrics: Metrics,
        fallback: str = "",
    ) -> None:
        self.version = version
        self.engine = engine
        self.fallback = fallback
        self.accuracy = self.manifest.accuracy(engine.name, engine.precision)
        self._metrics = metrics
        self._named = (self.manifest.name, str(self.manifest.version), self.manifest.class_names)
        self._turns = threading.Semaphore(engine.concurrency + engine.ahead)
        self._batcher = Batcher(
            self._run,
            batch_sizes=sizes_within(engine, max_batch),
            max_queued=max_queued,
            concurrency=engine.concurrency,
            ahead=engine.ahead,
        )
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def manifest(self) -> Manifest:
        return self.version.manifest

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the pictures that it takes, in pixels."""
        return self.manifest.input.height, self.manifest.input.width

    @property
    def alive(self) -> bool:
        """Whether its engine still answers."""
        return self._batcher.alive

    @property
    def batch(self) -> int | None:
        """The oldest batch that its engine is at, counted from 1; None while it has nothing to do."""
        return self._batcher.batch

    @property
    def queued(self) -> int:
        """Pictures that wait for the engine."""
        return self._batcher.queued

    @property
    def background(self) -> int:
        """Pictures that wait for its spare time."""
        return self._batcher.background

    @property
    def wait_s(self) -> float:
        """How long it takes until the engine has taken these."""
        return self._batcher.wait_s

    def answer_s(self, pictures: int = 1) -> float:
        """How long so many that come now would take, with all that waits and is computed before them."""
        return self._batcher.answer_s(pictures)

    @property
    def in_flight(self) -> int:
        """Requests that hold this version."""
        return self._in_flight

    def held(self) -> "_Held":
        """Keeps this version open, whatever becomes the live one meanwhile."""
        return _Held(self)

    def hold(self) -> None:
        """Keeps this version open until `let_go`."""
        self._in_flight += 1
        if self._in_flight == 1:
            self._idle.clear()

    def let_go(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def predict(self, images: NDArray[np.uint8], *, reserved: bool = False) -> Result:
        """The answers for uint8 [N, H, W, 3], however many wait if their places are `reserved`.

        Raises:
            OverloadedError: too many pictures are waiting.
            EngineError: the engine failed, or what it gave is no distribution over the classes.
        """
        result = await self._batcher.predict(images, reserved=reserved)
        self._metrics.took("queue", result.queued_s)
        self._metrics.took("infer", result.infer_s)
        self._metrics.predicted(*self._named, result.prediction.probabilities)
        return result

    async def predict_in_background(self, images: NDArray[np.uint8]) -> Result:
        """The same, once nothing else waits; these answers are not counted among those that were asked for.

        Raises:
            OverloadedError: too many pictures are waiting in the background.
            EngineError: as above.
        """
        return await self._batcher.predict(images, background=True)

    async def predict_in_turn_of(self, other: "Model", images: NDArray[np.uint8]) -> Result:
        """The answers of this version in the background of another, whose requests it never delays.

        Raises:
            OverloadedError: too much waits there, or this engine has something else to do.
            EngineError: as above.
        """
        return await other._batcher.predict(images, background=True, by=self._run_if_free)

    def give_up(self) -> None:
        """Fails whoever waits for an engine that hangs, and takes nothing more."""
        self._batcher.give_up()

    async def close(self) -> None:
        """Waits for the requests that hold it, then gives the engine back, however long that takes."""
        telling = asyncio.get_running_loop().call_later(LATE_S, self._tell_late)
        try:
            await self._idle.wait()
            await self._batcher.close()
        except asyncio.CancelledError:
            _LOG.error("%s is still at work; it is left behind.", self.version)
            raise
        finally:
            telling.cancel()
        if not self._batcher.is_given_up:  # or a thread is still in it
            self.engine.close()

    def _tell_late(self) -> None:
        _LOG.warning("%s is still at work %.0f s after it was to close.", self.version, LATE_S)

    def _run(self, images: NDArray[np.uint8]) -> Prediction:
        self._metrics.batch_pictures.observe(len(images))
        with self._turns:
            return self._checked(images)

    def _run_if_free(self, images: NDArray[np.uint8]) -> Prediction:
        if not self._turns.acquire(blocking=False):
            raise OverloadedError(f"The engine of {self.version} has something else to do.", reason="engine")
        try:
            return self._checked(images)
        finally:
            self._turns.release()

    def _checked(self, images: NDArray[np.uint8]) -> Prediction:
        prediction = self.engine.predict(images)
        check(prediction, (len(images), len(self.manifest.class_names)))
        return prediction


class _Held:
    """Gives the version, and holds it while it lasts."""

    __slots__ = ("_model",)

    def __init__(self, model: Model) -> None:
        self._model = model

    def __enter__(self) -> Model:
        self._model.hold()
        return self._model

    def __exit__(self, *_: object) -> None:
        self._model.let_go()


def check(prediction: Prediction, shape: tuple[int, int]) -> None:
    """That an engine gave distributions over the classes, `shape` = (pictures, classes), and finite scores.

    Raises:
        EngineError: it gave something else.
    """
    probabilities = prediction.probabilities
    if probabilities.shape != shape:
        raise EngineError(
            f"The engine gave probabilities of shape {probabilities.shape}; {shape} was expected."
        )
    off = np.abs(probabilities.sum(axis=1) - 1).max()
    if not (off <= _SUM_TOLERANCE and np.isfinite(prediction.ood_score).all()):
        raise EngineError(
            "The engine gave probabilities that do not sum to 1, or a score that is not finite."
        )
