"""What people say about answers, and what that makes of a version; written beside the requests."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import Final

from app.classification import Classified
from app.errors import FeedbackOffError, FeedbackStoreError, ServiceError
from app.feedback_figures import Figures
from app.feedback_store import FeedbackStore, Labelled, Prediction, read_samples
from app.metrics import Metrics
from app.settings import Settings

_LOG: Final = logging.getLogger(__name__)
_MAX_PENDING: Final = 10_000  # predictions that are not written yet; a disk that is slower loses some
_EVERY_S: Final = 0.5  # what a crash may lose
_SPARE: Final = 20  # figures are made again after so many times the time that making them took
_PRUNE_EVERY_S: Final = 60.0
_OFF: Final = "This service takes no feedback: CLASSIFIER_FEEDBACK_FILE names no file."


@dataclass(frozen=True, slots=True, eq=False)
class _Statement:
    """Feedback on its way to the file, and who waits for it."""

    request_id: str
    place: int
    label: str
    future: asyncio.Future[Labelled]


class Feedback:
    """Remembers predictions and takes feedback, if there is a file for it. Belongs to one event loop."""

    def __init__(
        self, path: Path | None, metrics: Metrics, *, max_predictions: int, max_age_s: float
    ) -> None:
        self._path = path
        self._metrics = metrics
        self._open = partial(FeedbackStore, max_predictions=max_predictions, max_age_s=max_age_s)
        self._pending: deque[Prediction | _Statement] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._figures: Sequence[Figures] = ()

    @classmethod
    def configured(cls, settings: Settings, metrics: Metrics) -> "Feedback":
        return cls(
            settings.feedback_file,
            metrics,
            max_predictions=settings.feedback_predictions,
            max_age_s=3600 * settings.feedback_hours,
        )

    @property
    def figures(self) -> Sequence[Figures]:
        """Those of a moment ago, which cost nothing."""
        return self._figures

    def start(self) -> None:
        """Opens the file and begins to write.

        Raises:
            FeedbackStoreError: the file cannot be used.
        """
        if self._path is None:
            return
        self._open(self._path).close()
        self._thread = threading.Thread(target=self._work, args=(self._path,), name="feedback", daemon=True)
        self._thread.start()

    def remember(self, request_id: str, classified: Classified, place: int = 0) -> None:
        """Makes feedback on this answer possible; costs a microsecond, and nothing where feedback is off."""
        if self._thread is None:
            return
        if len(self._pending) >= _MAX_PENDING:
            self._metrics.unremembered.inc()
            return
        manifest, probabilities = classified.model.manifest, classified.probabilities
        self._pending.append(Prediction(request_id, place, time(), manifest, probabilities))

    async def give(self, request_id: str, place: int, label: str) -> Labelled:
        """Keeps what a picture really showed; it is in the file when this returns.

        Raises:
            FeedbackOffError: there is no file.
            UnknownPredictionError, UnknownLabelError: it does not fit any prediction that is known.
            FeedbackStoreError: it cannot be written.
        """
        if self._thread is None:
            raise FeedbackOffError(_OFF)
        statement = _Statement(request_id, place, label, asyncio.get_running_loop().create_future())
        self._pending.append(statement)
        self._wake.set()
        return await statement.future

    async def summary(self) -> list[Figures]:
        """The figures of every version that has feedback, as of now.

        Raises:
            FeedbackOffError: there is no file.
            FeedbackStoreError: it cannot be read.
        """
        if self._path is None:
            raise FeedbackOffError(_OFF)
        return await asyncio.to_thread(_summarised, self._path)

    def close(self) -> None:
        """Writes what is pending and ends."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self, path: Path) -> None:
        store = self._open(path)
        writer = _Writer(store, self._metrics)
        try:
            while not self._closing:
                self._figures = writer.figures(self._figures)
                self._wake.wait(_EVERY_S)
                self._wake.clear()
                writer.write([self._pending.popleft() for _ in range(len(self._pending))])
            writer.write(list(self._pending))
        finally:
            store.close()


class _Writer:
    """What the thread does, in its order; a file that fails is told of once, until it works again."""

    def __init__(self, store: FeedbackStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._has_failed = False
        self._newest = -1
        self._pruned = -_PRUNE_EVERY_S
        self._next_figures = 0.0

    def write(self, pending: Sequence[Prediction | _Statement]) -> None:
        predictions = [each for each in pending if isinstance(each, Prediction)]
        try:
            self._store.remember(predictions)
            if monotonic() - self._pruned > _PRUNE_EVERY_S:
                self._store.prune(time())
                self._pruned = monotonic()
            self._has_failed = False
        except FeedbackStoreError as error:
            self._metrics.unremembered.inc(len(predictions))
            self._failed(error)
        for each in pending:
            if isinstance(each, _Statement):
                self._settle(each)

    def figures(self, before: Sequence[Figures]) -> Sequence[Figures]:
        """New ones if there is news, of other processes too, though not all the time."""
        began = monotonic()
        try:
            newest = self._store.newest()
            if newest == self._newest or began < self._next_figures:
                return before
            found = [Figures.of(sample) for sample in self._store.samples()]
        except FeedbackStoreError as error:
            self._failed(error)
            return before
        self._newest = newest
        self._next_figures = monotonic() + _SPARE * (monotonic() - began)
        return found

    def _settle(self, statement: _Statement) -> None:
        future = statement.future
        try:
            labelled = self._store.label(statement.request_id, statement.place, statement.label, time())
        except ServiceError as error:
            _tell(future, partial(future.set_exception, error))
        else:
            _tell(future, partial(future.set_result, labelled))

    def _failed(self, error: FeedbackStoreError) -> None:
        if not self._has_failed:
            _LOG.error("%s Predictions are not remembered until it works again.", error)
        self._has_failed = True


def _tell(future: asyncio.Future[Labelled], outcome: Callable[[], None]) -> None:
    def unless_nobody_waits() -> None:
        if not future.done():
            outcome()

    with suppress(RuntimeError):  # the loop is closed: the service ended meanwhile
        future.get_loop().call_soon_threadsafe(unless_nobody_waits)


def _summarised(path: Path) -> list[Figures]:
    return [Figures.of(sample) for sample in read_samples(path)]
