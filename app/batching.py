"""Joins requests that wait at the same time into batches, and never makes one wait for another.

An idle engine starts at once on whatever there is. While it runs, arrivals collect; when it is done it takes
as many of them as fit, oldest first. So no timer delays anybody, and batches grow with load by themselves.
The engine runs in a thread of its own, which goes from batch to batch without passing through the event loop.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.engines import Prediction
from app.errors import EngineError, OverloadedError

Predict = Callable[[NDArray[np.uint8]], Prediction]

_SMOOTHING = 0.2  # weight of the newest batch in the average time per picture


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """An answer and where its time went.

    `queued_s` is the wait before the first picture was taken and `infer_s` the time in the engine, in
    seconds; `batch_pictures` is the size of the largest batch that any of its pictures was in.
    """

    prediction: Prediction
    queued_s: float
    infer_s: float
    batch_pictures: int


@dataclass(slots=True, eq=False)
class _Job:
    """One caller's pictures; those that do not fit into one batch are taken in several pieces."""

    images: NDArray[np.uint8]
    future: asyncio.Future[Result]
    submitted: float = field(default_factory=perf_counter)
    started: float = 0.0
    taken: int = 0
    infer_s: float = 0.0
    batch_pictures: int = 0
    parts: list[Prediction] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        return len(self.images) - self.taken

    def take(self, most: int) -> NDArray[np.uint8]:
        self.started = self.started or perf_counter()
        piece = self.images[self.taken : self.taken + most]
        self.taken += len(piece)
        return piece

    def add(self, part: Prediction, infer_s: float, batch_pictures: int) -> Result | None:
        """The result, once every picture has its answer."""
        self.parts.append(part)
        self.infer_s += infer_s
        self.batch_pictures = max(self.batch_pictures, batch_pictures)
        if sum(len(part.probabilities) for part in self.parts) < len(self.images):
            return None
        return Result(_joined(self.parts), self.started - self.submitted, self.infer_s, self.batch_pictures)


_Piece = tuple[_Job, NDArray[np.uint8]]
_Outcome = tuple[_Job, Result | Exception]


class Batcher:
    """Feeds one engine from its own thread. `predict` and `close` belong to one event loop.

    At most `max_queued` pictures wait. All have the same size, so this bounds their bytes too.
    """

    def __init__(self, predict: Predict, *, max_batch: int, max_queued: int) -> None:
        self._predict = predict
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._jobs: deque[_Job] = deque()
        self._running: list[_Piece] = []
        self._queued = 0
        self._seconds_per_picture = 0.0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Pictures that no batch has taken yet."""
        return self._queued

    @property
    def wait_s(self) -> float:
        """How long it takes until all of them are taken, judged by the latest batches."""
        return self._seconds_per_picture * self._queued

    @property
    def alive(self) -> bool:
        """Whether what is submitted now will be looked at."""
        return self._thread.is_alive() and not self._closing

    async def predict(self, images: NDArray[np.uint8]) -> Result:
        """Answers for uint8 [N, H, W, 3], N at least 1. A caller that is cancelled gives up its place.

        Raises:
            OverloadedError: the queue has no room for N more pictures.
            EngineError: the engine failed on these pictures, or has stopped.
        """
        job = _Job(images, asyncio.get_running_loop().create_future())
        self._put(job)
        try:
            return await job.future
        except asyncio.CancelledError:
            self._drop(job)
            raise

    async def close(self, timeout_s: float = 10.0) -> bool:
        """Takes nothing more, answers what waits and ends the thread; False if that takes too long."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, timeout_s)
        return not self._thread.is_alive()

    def _put(self, job: _Job) -> None:
        with self._changed:
            if not self.alive:
                raise EngineError(
                    "The engine of this model version has stopped and answers nothing any more."
                )
            if self._queued + len(job.images) > self._max_queued:
                raise OverloadedError(
                    f"{self._queued} pictures wait for the model and at most {self._max_queued} may; this "
                    f"request adds {len(job.images)}.",
                    retry_after_s=self.wait_s,
                )
            self._jobs.append(job)
            self._queued += len(job.images)
            self._changed.notify()

    def _drop(self, job: _Job) -> None:
        with self._changed, suppress(ValueError):
            self._jobs.remove(job)
            self._queued -= job.waiting

    def _work(self) -> None:
        try:
            while pieces := self._next_batch():
                self._deliver(self._answer(pieces))
        finally:
            self._closing = True
            gone = EngineError("The engine of this model version has stopped before it answered.")
            self._deliver([(job, gone) for job in (*(job for job, _ in self._running), *self._jobs)])

    def _next_batch(self) -> list[_Piece]:
        """Waits for work and takes a full batch of it or all there is; nothing when closing and empty."""
        with self._changed:
            self._running = []
            self._changed.wait_for(lambda: self._jobs or self._closing)
            room = self._max_batch
            while self._jobs and room:
                job = self._jobs[0]
                piece = job.take(room)
                self._running.append((job, piece))
                room -= len(piece)
                self._queued -= len(piece)
                if not job.waiting:
                    self._jobs.popleft()
            return self._running

    def _answer(self, pieces: list[_Piece]) -> list[_Outcome]:
        """Runs the pieces as one batch; should that fail, each alone, so that only the guilty one fails."""
        images = pieces[0][1] if len(pieces) == 1 else np.concatenate([piece for _, piece in pieces])
        started = perf_counter()
        try:
            prediction = self._predict(images)
        except Exception as error:  # noqa: BLE001
            # Whatever the engine raises belongs to the callers, and the thread must outlive it.
            if len(pieces) == 1:
                self._drop(pieces[0][0])
                return [(pieces[0][0], error)]
            return [outcome for piece in pieces for outcome in self._answer([piece])]
        infer_s = perf_counter() - started
        self._seconds_per_picture += _SMOOTHING * (infer_s / len(images) - self._seconds_per_picture)
        parts = _split(prediction, [len(piece) for _, piece in pieces])
        results = [
            (job, job.add(part, infer_s, len(images))) for (job, _), part in zip(pieces, parts, strict=True)
        ]
        return [(job, result) for job, result in results if result]

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        if outcomes:
            # The loop is closed only when nobody waits any more.
            with suppress(RuntimeError):
                outcomes[0][0].future.get_loop().call_soon_threadsafe(_settle, outcomes)


def _settle(outcomes: list[_Outcome]) -> None:
    for job, outcome in outcomes:
        if job.future.done():
            continue
        if isinstance(outcome, Result):
            job.future.set_result(outcome)
        else:
            job.future.set_exception(outcome)


def _split(prediction: Prediction, counts: list[int]) -> list[Prediction]:
    cuts = np.cumsum(counts)[:-1]
    pairs = zip(np.split(prediction.probabilities, cuts), np.split(prediction.ood_score, cuts), strict=True)
    return [Prediction(probabilities, ood_score) for probabilities, ood_score in pairs]


def _joined(parts: list[Prediction]) -> Prediction:
    if len(parts) == 1:
        return parts[0]
    return Prediction(
        probabilities=np.concatenate([part.probabilities for part in parts]),
        ood_score=np.concatenate([part.ood_score for part in parts]),
    )
