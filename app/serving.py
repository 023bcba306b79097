"""Models in memory: loaded, proven and warmed beside the traffic, live, and gone without a request lost."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app import engines, golden
from app.batching import Batcher, Result
from app.engines import Engine, Prediction
from app.errors import (
    EngineError,
    EngineUnavailableError,
    GoldenError,
    ModelError,
    NotReadyError,
    ServiceError,
)
from app.manifest import GOLDEN_NAME, Manifest
from app.metrics import Metrics
from app.repository import Repository, Version
from app.settings import Settings

Choose = Callable[[str, Path, int], Engine]

_LOG: Final = logging.getLogger(__name__)
_CLOSE_TIMEOUT_S: Final = 30.0
_SUM_TOLERANCE: Final = 1e-3


class State(StrEnum):
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"


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
        self._batcher = Batcher(self._run, max_batch=max_batch, max_queued=max_queued)
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
    def queued(self) -> int:
        """Pictures that wait for the engine."""
        return self._batcher.queued

    @property
    def wait_s(self) -> float:
        """How long it takes until the engine has taken these."""
        return self._batcher.wait_s

    @property
    def in_flight(self) -> int:
        """Requests that hold this version."""
        return self._in_flight

    @contextmanager
    def held(self) -> Iterator["Model"]:
        """Keeps this version open, whatever becomes the live one meanwhile."""
        self._in_flight += 1
        self._idle.clear()
        try:
            yield self
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def predict(self, images: NDArray[np.uint8]) -> Result:
        """The answers for uint8 [N, H, W, 3].

        Raises:
            OverloadedError: too many pictures are waiting.
            EngineError: the engine failed, or what it gave is no distribution over the classes.
        """
        result = await self._batcher.predict(images)
        self._metrics.took("queue", result.queued_s)
        self._metrics.took("infer", result.infer_s)
        self._metrics.predicted(self.manifest.class_names, result.prediction.probabilities)
        return result

    async def close(self) -> None:
        """Waits for the requests that hold it, then gives the engine back."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._idle.wait()
                ended = await self._batcher.close()
        except TimeoutError:
            ended = False
        if ended:
            self.engine.close()
        else:
            _LOG.error(
                "%s is still at work %.0f s after it was to close; it is left behind.", self.version, 30
            )

    def _run(self, images: NDArray[np.uint8]) -> Prediction:
        self._metrics.batch_pictures.observe(len(images))
        prediction = self.engine.predict(images)
        _check(prediction, (len(images), len(self.manifest.class_names)))
        return prediction


class Serving:
    """The live model, how it came to be, and what is wrong if there is none.

    Belongs to one event loop; models are loaded in a thread, so the loop answers meanwhile.
    """

    def __init__(
        self, settings: Settings, choose: Choose = engines.choose, metrics: Metrics | None = None
    ) -> None:
        self._settings = settings
        self._choose = choose
        self._metrics = metrics or Metrics()
        self._repository = Repository(settings.model_root)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._live: Model | None = None
        self._state = State.LOADING
        self._reason = f"The model {settings.model_name} is being loaded."

    @property
    def state(self) -> State:
        if self._state is State.READY and not (self._live and self._live.alive):
            return State.FAILED
        return self._state

    @property
    def reason(self) -> str:
        """Why the service is not ready, in a sentence; empty when it is."""
        if self._state is State.READY and self.state is State.FAILED:
            return "The engine has stopped; restart the service."
        return self._reason

    @property
    def live(self) -> Model:
        """The version that answers now.

        Raises:
            NotReadyError: there is none yet, or its engine has stopped.
        """
        if self._live is None or not self._live.alive:
            raise NotReadyError(self.reason)
        return self._live

    async def start(self) -> None:
        """Loads the version that the settings ask for and makes it live.

        Raises:
            ModelError: it is missing, damaged, or does not do what was recorded when it was published.
        """
        wanted = self._settings.model_version
        try:
            await self.swap(await self.load(None if wanted == "latest" else wanted))
        except ServiceError as error:
            self._state, self._reason = State.FAILED, str(error)
            raise

    async def load(self, number: int | None = None) -> Model:
        """A version, the newest unless told otherwise: verified, loaded, proven on its golden pictures, warm.

        Raises:
            ModelError: any of that failed; whatever is live stays live.
        """
        return await asyncio.get_running_loop().run_in_executor(self._loader, self._load, number)

    async def swap(self, model: Model) -> None:
        """Makes a model live in one step, then closes the one before when its last request is answered."""
        before, self._live = self._live, model
        if self._state is not State.DRAINING:
            self._state, self._reason = State.READY, ""
        if before is not None:
            await before.close()

    def drain(self) -> None:
        """Says not ready from now on, but goes on answering."""
        self._state, self._reason = State.DRAINING, "The service is shutting down; send requests elsewhere."

    async def close(self) -> None:
        self.drain()
        self._loader.shutdown(wait=False, cancel_futures=True)
        live, self._live = self._live, None
        if live is not None:
            await live.close()

    def _load(self, number: int | None) -> Model:
        settings, began = self._settings, perf_counter()
        version = self._repository.open(settings.model_name, number)
        engine, fallback = self._proven_engine(version)
        took_s = perf_counter() - began
        _LOG.info("%s is loaded on %s (%s) after %.1f s.", version, engine.name, engine.precision, took_s)
        max_batch = min(settings.max_batch_pictures, engine.batch_sizes[-1])
        return Model(
            version,
            engine,
            max_batch=max_batch,
            max_queued=settings.queue_pictures,
            metrics=self._metrics,
            fallback=fallback,
        )

    def _proven_engine(self, version: Version) -> tuple[Engine, str]:
        """The fastest engine that gives what was recorded, and why the faster ones were given up."""
        given_up: list[ModelError] = []
        unavailable: list[EngineUnavailableError] = []
        for name in engines.candidates(self._settings.engine):
            try:
                return self._warm_engine(name, version), " ".join(map(str, given_up))
            except EngineUnavailableError as error:
                unavailable.append(error)
            except (EngineError, GoldenError) as error:
                _LOG.warning("%s does not run on the engine %s: %s", version, name, error)
                given_up.append(error)
        raise given_up[0] if given_up else EngineUnavailableError(" ".join(map(str, unavailable)))

    def _warm_engine(self, name: str, version: Version) -> Engine:
        try:
            engine = self._choose(name, version.path, self._settings.engine_threads)
            with _closed_on_failure(engine):
                _prove(engine, version)
                _warm(engine, version, min(self._settings.max_batch_pictures, engine.batch_sizes[-1]))
        except ServiceError:
            raise
        except Exception as error:
            raise EngineError(
                f"{version} failed while it was being loaded: {type(error).__name__}."
            ) from error
        return engine


@contextmanager
def _closed_on_failure(engine: Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.close()
        raise


def _prove(engine: Engine, version: Version) -> None:
    tolerance = version.manifest.golden_tolerance.get(engine.precision)
    if tolerance is None:
        raise GoldenError(
            f"{version} states no tolerance for the precision {engine.precision}, so it cannot be proven on "
            f"the engine {engine.name}. Publish it again with one, or choose another engine."
        )
    recorded = golden.read(version.path / GOLDEN_NAME)
    golden.replay(recorded, engine, tolerance)
    _check(engine.predict(recorded.pixels), (len(recorded.files), len(version.manifest.class_names)))


def _warm(engine: Engine, version: Version, max_batch: int) -> None:
    shape = version.manifest.input
    largest = next(size for size in engine.batch_sizes if size >= max_batch)
    for size in (size for size in engine.batch_sizes if size <= largest):
        engine.predict(np.zeros((size, shape.height, shape.width, shape.channels), dtype=np.uint8))


def _check(prediction: Prediction, shape: tuple[int, int]) -> None:
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
