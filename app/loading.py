"""From a folder to a model that may serve: verified, loaded, proven on its golden pictures, warm."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import Final, NamedTuple

import numpy as np

from app import engines, golden, graph, parallel
from app.cores import give_way
from app.engines import Engine
from app.errors import (
    DamagedVersionError,
    EngineError,
    EngineNotInstalledError,
    EngineUnavailableError,
    GoldenError,
    LoadTimeoutError,
    ModelError,
    ServiceError,
    ShortageError,
)
from app.manifest import GOLDEN_NAME
from app.metrics import Metrics
from app.model import Model, check
from app.repository import Repository, Version
from app.settings import PREFIX, Settings

Choose = Callable[[str, Path, int], Engine]

_LOG: Final = logging.getLogger(__name__)
# Seconds, several times what loading takes: what is not done by then waits for a disk, or hangs.
TURN_S: Final = 10.0
# That one model may have at the same time: one that is wanted, and one that was.
_MOST_AT_WORK: Final = 2
_LOADED: Final = "loaded"
_LOOK_EVERY_S: Final = 0.05


class _Work(NamedTuple):
    """A thread that loads a version of the model `name`, and when its time is over."""

    name: str
    thread: threading.Thread
    ends_at: float

    @property
    def is_unfinished(self) -> bool:
        return self.thread.is_alive() and monotonic() < self.ends_at


class Loader:
    """Loads one version after another, each in a thread of its own, so that the event loop answers meanwhile.

    They take turns, since engines that answer need the cores; but a turn ends after `TURN_S`, so that no
    model waits for long for another that hangs.

    A thread that hangs cannot be ended. It is left behind when its time is over, or when nobody waits for it
    any more: the next version gets another, and the end of the process waits for none whose time is over.
    What it loads after all it closes.
    """

    def __init__(self, settings: Settings, choose: Choose, metrics: Metrics) -> None:
        self.repository: Final = Repository(settings.model_root)
        self._settings = settings
        self._choose = choose
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._at_work: list[_Work] = []

    async def load(self, name: str, number: int) -> Model:
        """This version of the model of this name, ready to serve.

        Raises:
            ModelError: it is missing, damaged, does not do what was recorded when it was published, or takes
                too long.
        """
        try:
            model = await self._loaded(name, number)
        except ServiceError as error:
            self._metrics.loads.labels(name, error.code).inc()
            raise
        self._metrics.loads.labels(name, _LOADED).inc()
        return model

    async def close(self) -> None:
        """Waits for what is being loaded, since an engine may crash if the process ends at that moment."""
        while self._unfinished():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _loaded(self, name: str, number: int) -> Model:
        # Or else an operator in two minds would fill the memory with what is half loaded.
        while self._unfinished().count(name) >= _MOST_AT_WORK:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY_S)
        limit_s = self._settings.load_timeout_s
        loading = Future[Model]()
        waiting = asyncio.wrap_future(loading)
        with _closed_unless_taken(loading):
            try:
                async with self._turn:
                    ends_at = asyncio.get_running_loop().time() + limit_s
                    self._begin(loading, name, number)
                    await asyncio.wait([waiting], timeout=min(TURN_S, limit_s))
                async with asyncio.timeout_at(ends_at):
                    return await waiting
            except TimeoutError as error:
                raise LoadTimeoutError(
                    f"{name} version {number} was not loaded, proven and warm within {limit_s:g} s "
                    f"({PREFIX}LOAD_TIMEOUT_S)."
                ) from error

    def _begin(self, loading: Future[Model], name: str, number: int) -> None:
        thread = threading.Thread(target=self._work, args=(loading, name, number), name="loader", daemon=True)
        thread.start()
        self._at_work.append(_Work(name, thread, monotonic() + self._settings.load_timeout_s))

    def _unfinished(self) -> list[str]:
        """The models of which a version is being loaded, as often as that is so."""
        self._at_work = [work for work in self._at_work if work.is_unfinished]
        return [work.name for work in self._at_work]

    def _work(self, loading: Future[Model], name: str, number: int) -> None:
        give_way()  # as do the threads that an engine starts
        try:
            model = self._load(loading, name, number)
        except BaseException as error:  # noqa: BLE001  # it belongs to whoever waits
            with suppress(InvalidStateError):
                loading.set_exception(error)
            return
        try:
            loading.set_result(model)
        except InvalidStateError:  # nobody waits any more
            asyncio.run(model.close())

    def _load(self, loading: Future[Model], name: str, number: int) -> Model:
        settings, began = self._settings, perf_counter()
        try:
            version = self.repository.open(name, number)
            graph.check(version.path)
        except OSError as error:
            raise DamagedVersionError(f"{name} version {number} cannot be read: {error.strerror}.") from error
        engine, fallback = self._proven_engine(version, loading.cancelled)
        took_s = perf_counter() - began
        _LOG.info("%s is loaded on %s (%s) after %.1f s.", version, engine.name, engine.precision, took_s)
        return Model(
            version,
            engine,
            max_batch=settings.max_batch_pictures,
            max_queued=settings.queue_pictures,
            metrics=self._metrics,
            fallback=fallback,
        )

    def _proven_engine(self, version: Version, is_abandoned: Callable[[], bool]) -> tuple[Engine, str]:
        """The fastest engine that gives what was recorded, and why the faster ones were given up."""
        given_up: list[ModelError] = []
        unavailable: list[EngineUnavailableError] = []
        for name in engines.candidates(self._settings.engine):
            if is_abandoned():  # no cores and no memory for what nobody waits for
                raise CancelledError
            try:
                return self._warm_engine(name, version), " ".join(map(str, given_up))
            except EngineUnavailableError as error:
                unavailable.append(error)
                # One package is missing to several engines, in the same words.
                is_known = str(error) in map(str, given_up)
                if isinstance(error, EngineNotInstalledError) and _is_for(name, version) and not is_known:
                    _LOG.warning("%s was published for an engine that is not here: %s", version, error)
                    given_up.append(error)
            except (EngineError, GoldenError) as error:
                if is_abandoned():  # nor a line in the log
                    raise CancelledError from error
                _LOG.warning("%s does not run on the engine %s: %s", version, name, error)
                given_up.append(error)
        raise given_up[0] if given_up else EngineUnavailableError(" ".join(map(str, unavailable)))

    def _warm_engine(self, name: str, version: Version) -> Engine:
        try:
            engine = self._choose(name, version.path, self._settings.engine_threads)
            with _closed_on_failure(engine):
                _prove(engine, version)
                _warm(engine, version, self._settings.max_batch_pictures)
        except ServiceError:
            raise
        except (MemoryError, OSError) as error:
            # No reason to give up this engine for as long as the version serves.
            why = getattr(error, "strerror", None) or "there is not enough memory"
            raise ShortageError(f"{version} cannot be loaded now: {why}.") from error
        except Exception as error:
            raise EngineError(
                f"{version} failed while it was being loaded: {type(error).__name__}."
            ) from error
        return engine


@contextmanager
def _closed_unless_taken(loading: Future[Model]) -> Iterator[None]:
    """Lets the thread that loads close its model if the block fails; one that is there already is closed."""
    try:
        yield
    except BaseException:
        if not loading.cancel() and loading.exception() is None:
            threading.Thread(target=asyncio.run, args=[loading.result().close()], daemon=True).start()
        raise


def _is_for(engine: str, version: Version) -> bool:
    """Whether it was published with files for this engine."""
    folder = engine.partition("-")[0]
    return any(file.startswith(f"{folder}/") for file in version.manifest.files)


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
    recorded, shape = golden.read(version.path / GOLDEN_NAME), version.manifest.input
    stated = (shape.height, shape.width, shape.channels)
    if recorded.pixels.shape[1:] != stated:
        raise GoldenError(
            f"{version} takes pictures of {list(stated)} by its manifest, and its golden pictures have "
            f"{list(recorded.pixels.shape[1:])}. Publish it again."
        )
    prediction = golden.replay(recorded, engine, tolerance)
    check(prediction, (len(recorded.files), len(version.manifest.class_names)))


def _warm(engine: Engine, version: Version, max_batch: int) -> None:
    """Runs every size that will come, alone and, since an engine may treat a lone picture apart, in a row."""
    shape = version.manifest.input
    sizes = engines.sizes_within(engine, max_batch)
    batches = [
        np.zeros((count, shape.height, shape.width, shape.channels), dtype=np.uint8)
        for count in (sum(sizes), *reversed(sizes))  # of two threads, each gets half
    ]
    parallel.run([partial(engine.predict, batch) for batch in batches], engine.concurrency)
