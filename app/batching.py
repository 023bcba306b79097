"""Joins requests that wait at the same time into batches, and never makes one wait for another.

An idle engine starts at once on whatever there is. While it runs, arrivals collect; when it is done it takes
as many of them as fit, oldest first. So no timer delays anybody, and batches grow with load by themselves.
The engine runs in a thread of its own, which goes from batch to batch without passing through the event loop.

What can wait (explanations, a second version's opinion) goes into a lane of its own, which is looked at only
when nothing else waits, a few pictures at a time: whoever comes next waits for no more than these.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.engines import Prediction
from app.errors import EngineError, OverloadedError

Predict = Callable[[NDArray[np.uint8]], Prediction]

_SMOOTHING = 0.2  # weight of the newest batch in the average time per picture
_SPARE_BATCH = 8  # most background pictures at once: about 25 ms of two cores for the model that ships
_LATELY_S = (
    0.25  # so long after the last ordinary picture the next one is expected, and background goes singly
)


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
    by: Predict
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


class _Lane:
    """Jobs that wait, oldest first; at most `most` pictures."""

    def __init__(self, most: int, what: str) -> None:
        self.jobs: deque[_Job] = deque()
        self.queued = 0
        self._most = most
        self._what = what

    def put(self, job: _Job, seconds_per_picture: float) -> None:
        added = len(job.images)
        if self.queued + added > self._most:
            raise OverloadedError(
                f"{self.queued} pictures wait for {self._what} and at most {self._most} may; this request "
                f"adds {added}.",
                retry_after_s=seconds_per_picture * self.queued,
            )
        self.jobs.append(job)
        self.queued += added

    def drop(self, job: _Job) -> None:
        with suppress(ValueError):
            self.jobs.remove(job)
            self.queued -= job.waiting

    def take(self, room: int) -> list[_Piece]:
        """Pieces of at most `room` pictures together, all for the same engine."""
        pieces: list[_Piece] = []
        while self.jobs and room:
            job = self.jobs[0]
            if pieces and pieces[0][0].by != job.by:
                break
            piece = job.take(room)
            pieces.append((job, piece))
            room -= len(piece)
            self.queued -= len(piece)
            if not job.waiting:
                self.jobs.popleft()
        return pieces


class Batcher:
    """Feeds one engine from its own thread. `predict` and `close` belong to one event loop.

    At most `max_queued` pictures wait, and `max_background` in the background. All have the same size, so
    this bounds their bytes too.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        max_batch: int,
        max_queued: int,
        max_background: int = 1024,
        lately_s: float = _LATELY_S,
    ) -> None:
        self._predict = predict
        self._max_batch = max_batch
        self._ordinary = _Lane(max_queued, "the model")
        self._background = _Lane(max_background, "the model's spare time")
        self._lately_s = lately_s
        self._taken_at = -lately_s
        self._running: list[_Piece] = []
        self._seconds_per_picture = 0.0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Pictures that no batch has taken yet, without those in the background."""
        return self._ordinary.queued

    @property
    def background(self) -> int:
        """Pictures that wait until nothing else does."""
        return self._background.queued

    @property
    def wait_s(self) -> float:
        """How long it takes until all of them are taken, judged by the latest batches."""
        return self._seconds_per_picture * self._ordinary.queued

    @property
    def alive(self) -> bool:
        """Whether what is submitted now will be looked at."""
        return self._thread.is_alive() and not self._closing

    async def predict(
        self, images: NDArray[np.uint8], *, background: bool = False, by: Predict | None = None
    ) -> Result:
        """Answers for uint8 [N, H, W, 3], N at least 1. A caller that is cancelled gives up its place.

        `background` lets everything else go first, however long that takes. `by` asks another engine in the
        turn of this one, so that the two never compete for the cores.

        Raises:
            OverloadedError: the queue has no room for N more pictures.
            EngineError: the engine failed on these pictures, or has stopped.
        """
        lane = self._background if background else self._ordinary
        job = _Job(images, asyncio.get_running_loop().create_future(), by or self._predict)
        self._put(job, lane)
        try:
            return await job.future
        except asyncio.CancelledError:
            with self._changed:
                lane.drop(job)
            raise

    async def close(self, timeout_s: float = 10.0) -> bool:
        """Takes nothing more, answers what waits and ends the thread; False if that takes too long."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, timeout_s)
        return not self._thread.is_alive()

    def _put(self, job: _Job, lane: _Lane) -> None:
        with self._changed:
            if not self.alive:
                raise EngineError(
                    "The engine of this model version has stopped and answers nothing any more."
                )
            lane.put(job, self._seconds_per_picture)
            self._changed.notify()

    def _work(self) -> None:
        try:
            while pieces := self._next_batch():
                self._deliver(self._answer(pieces))
        finally:
            self._closing = True
            gone = EngineError("The engine of this model version has stopped before it answered.")
            self._deliver([(job, gone) for job in self._unanswered()])

    def _unanswered(self) -> list[_Job]:
        return [*(job for job, _ in self._running), *self._ordinary.jobs, *self._background.jobs]

    def _next_batch(self) -> list[_Piece]:
        """Waits for work and takes a full batch of it or all there is; nothing when closing and empty."""
        with self._changed:
            self._running = []
            self._changed.wait_for(lambda: self._ordinary.jobs or self._background.jobs or self._closing)
            if self._ordinary.jobs:
                self._taken_at = perf_counter()
                self._running = self._ordinary.take(self._max_batch)
            elif not self._closing:
                self._running = self._background.take(self._background_batch())
            return self._running

    def _background_batch(self) -> int:
        """Single pictures while others are likely to come; more, which is faster, where nobody does."""
        if perf_counter() - self._taken_at < self._lately_s:
            return 1
        return min(_SPARE_BATCH, self._max_batch)

    def _answer(self, pieces: list[_Piece]) -> list[_Outcome]:
        """Runs the pieces as one batch; should that fail, each alone, so that only the guilty one fails."""
        images = pieces[0][1] if len(pieces) == 1 else np.concatenate([piece for _, piece in pieces])
        started = perf_counter()
        try:
            prediction = pieces[0][0].by(images)
        except Exception as error:  # noqa: BLE001
            # Whatever the engine raises belongs to the callers, and the thread must outlive it.
            if len(pieces) == 1:
                self._forget(pieces[0][0])
                return [(pieces[0][0], error)]
            return [outcome for piece in pieces for outcome in self._answer([piece])]
        infer_s = perf_counter() - started
        if pieces[0][0].by == self._predict:
            self._seconds_per_picture += _SMOOTHING * (infer_s / len(images) - self._seconds_per_picture)
        parts = _split(prediction, [len(piece) for _, piece in pieces])
        results = [
            (job, job.add(part, infer_s, len(images))) for (job, _), part in zip(pieces, parts, strict=True)
        ]
        return [(job, result) for job, result in results if result]

    def _forget(self, job: _Job) -> None:
        with self._changed:
            self._ordinary.drop(job)
            self._background.drop(job)

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
    ends = list(accumulate(counts))
    return [
        Prediction(prediction.probabilities[start:end], prediction.ood_score[start:end])
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def _joined(parts: list[Prediction]) -> Prediction:
    if len(parts) == 1:
        return parts[0]
    return Prediction(
        probabilities=np.concatenate([part.probabilities for part in parts]),
        ood_score=np.concatenate([part.ood_score for part in parts]),
    )
