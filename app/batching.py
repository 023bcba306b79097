"""Joins requests that wait at the same time into batches, and never makes one wait for another.

An idle engine starts at once on whatever there is. While it runs, arrivals collect; when it is done it takes
as many of them as fit, oldest first. So no timer delays anybody, and batches grow with load by themselves.
The engine runs in threads of its own, which go from batch to batch without passing through the event loop.
Where it takes several at a time, each thread has a batch of its own: while the answers of one are on their
way out, the others compute. While so much waits that the next batches are certain to be full, an engine that
can keep them in line is given one ahead: otherwise each of its cores, done with a batch, would wait until
Python has a moment for it.

What can wait (explanations, a second version's opinion) goes into a lane of its own, which is looked at only
when nothing else waits, as `SpareTime` allows: whoever comes next waits for no more than a few of these.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from math import ceil
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.batch_time import BatchTime
from app.cores import give_way
from app.engines import Prediction
from app.errors import EngineError, NotReadyError
from app.lane import Answer, Job, Lane, Piece, Predict, Result
from app.spare_time import SpareTime

_LOG = logging.getLogger(__name__)
_Outcome = tuple[Piece, Answer | Exception]

_LOOK_EVERY_S = 0.01
_FULL_AHEAD = 2  # batches that have to wait before one of them goes ahead
_MOST_FAILURES = 5  # batches in a row without any answer: not the pictures are at fault, but the engine
_LATELY_S = 0.25  # after an ordinary picture the next one is expected, and the background goes singly


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    number: int
    pieces: list[Piece]
    background: bool
    began: float = field(default_factory=perf_counter)

    @property
    def pictures(self) -> int:
        return sum(len(piece.images) for piece in self.pieces)


class Batcher:
    """Feeds one engine, which computes `concurrency` batches at a time and keeps `ahead` more in line.

    `predict` and `close` belong to one event loop.

    `batch_sizes` are those that the engine runs without loss, ascending; what is less than the first makes a
    batch too. At most `max_queued` pictures wait, and `max_background` in the background. All have the same
    size, so this bounds their bytes too.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        batch_sizes: Sequence[int],
        max_queued: int,
        concurrency: int = 1,
        ahead: int = 0,
        max_background: int = 1024,
        lately_s: float = _LATELY_S,
    ) -> None:
        self._predict = predict
        self._batch_sizes = batch_sizes
        self._concurrency = concurrency
        self._ordinary = Lane(max_queued, "the model")
        self._background = Lane(max_background, "the model's spare time")
        self._spare = SpareTime(batch_sizes[-1], lately_s)
        self._running: dict[int, _Batch] = {}
        self._batches = 0
        self._batch_time = BatchTime()
        self._failures = 0  # in a row
        self._closing = False
        self.is_given_up = False
        self._lock = threading.Lock()
        self._idle: list[threading.Condition] = []
        self._threads = [
            threading.Thread(target=self._work, name="engine", daemon=True)
            for _ in range(concurrency + ahead)
        ]
        for thread in self._threads:
            thread.start()

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
        return self._emptied_s(self._ordinary.queued)

    def answer_s(self, pictures: int = 1) -> float:
        """How long so many that are submitted now would take, with all that waits and runs before them."""
        running = list(self._running.values())
        pictures += self._ordinary.queued
        batches = len(running) + ceil(pictures / self._batch_sizes[-1])
        pictures += sum(batch.pictures for batch in running)
        return self._batch_time.estimate(batches, pictures) / self._concurrency

    @property
    def alive(self) -> bool:
        """Whether what is submitted now will be looked at."""
        return not self._closing  # a thread that ends, for whatever reason, says so

    @property
    def batch(self) -> int | None:
        """The oldest batch that the engine is at, counted from 1; None while it has nothing to do."""
        return min(list(self._running), default=None)

    async def predict(
        self,
        images: NDArray[np.uint8],
        *,
        background: bool = False,
        by: Predict | None = None,
        reserved: bool = False,
    ) -> Result:
        """Answers for uint8 [N, H, W, 3], N at least 1. A caller that is cancelled gives up its place.

        Those whose places are `reserved` are taken however many wait.

        `background` lets everything else go first, however long that takes. `by` asks another engine in the
        turn of this one, when this one has nothing to do, so that the two do not compete for the cores.

        Raises:
            OverloadedError: the queue has no room for N more pictures.
            NotReadyError: the engine has stopped.
            EngineError: it failed on these pictures, or stopped before it answered.
        """
        lane = self._background if background else self._ordinary
        job = Job(images, asyncio.get_running_loop().create_future(), by or self._predict)
        self._put(job, lane, reserved=reserved)
        try:
            return await job.future
        except asyncio.CancelledError:
            with self._lock:
                lane.drop(job)
            raise

    async def close(self) -> None:
        """Takes nothing more, answers what waits but for the background, and ends the threads.

        That takes as long as it takes.
        """
        with self._lock:
            self._closing = True
            self._wake_all()
        # To join them would take another thread, which an engine that hangs would never free.
        while not self.is_given_up and any(thread.is_alive() for thread in self._threads):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY_S)

    def give_up(self) -> None:
        """Takes nothing more and lets nobody wait any longer for a thread that hangs, `close` neither."""
        self.is_given_up = True
        self._stop(list(self._running.values()))

    def _put(self, job: Job, lane: Lane, *, reserved: bool) -> None:
        with self._lock:
            if not self.alive:
                raise NotReadyError("The engine of this model version has stopped.")
            lane.put(job, self._emptied_s, reserved=reserved)
            if self._has_free or self._has_turn:
                self._wake()

    def _work(self) -> None:
        give_way()
        called = threading.Condition(self._lock)
        batch = None
        try:
            while batch := self._next_batch(called):
                outcomes = self._answer(batch.pieces)
                self._deliver(outcomes)
                self._end(batch)
                batch = None  # it holds pictures
                if self._is_broken(outcomes):
                    return
        finally:
            if batch:
                self._end(batch)
            self._stop([batch] if batch else [])

    def _is_broken(self, outcomes: list[_Outcome]) -> bool:
        """Whether the engine has answered nobody for so long that it is to be taken for dead."""
        if outcomes[0][0].job.by != self._predict:
            return False
        errors = [outcome for _, outcome in outcomes if isinstance(outcome, Exception)]
        with self._lock:
            self._failures = self._failures + 1 if len(errors) == len(outcomes) else 0
            is_broken = self._failures == _MOST_FAILURES
        if is_broken:
            _LOG.error(
                "The engine failed on %d batches in a row, at last with: %s", _MOST_FAILURES, errors[-1]
            )
        return is_broken

    def _next_batch(self, called: threading.Condition) -> _Batch | None:
        """Waits for work and takes a batch of it; None when closing and nothing waits."""
        with self._lock:
            while not self._has_turn:
                if self._closing and not self._ordinary.jobs:
                    return None
                now = perf_counter()
                rest_s = self._rest_s(now)
                if rest_s == 0:
                    self._spare.begins()
                    return self._begin(self._background.take(self._spare.pictures(now)), background=True)
                self._idle.append(called)
                called.wait(rest_s)
                if called in self._idle:
                    self._idle.remove(called)
            self._spare.ordinary_begins(perf_counter())
            return self._begin(self._ordinary.take(self._share()), background=False)

    def _rest_s(self, now: float) -> float | None:
        """How long the background has to wait; None for as long as nothing changes."""
        if not (self._background.jobs and self._has_free):
            return None
        if self._running and self._background.jobs[0].by != self._predict:
            return None  # another engine would compete with this one
        return self._spare.rest_s(now)

    @property
    def _has_free(self) -> bool:
        """Whether the engine would compute one more batch at once."""
        return len(self._running) < self._concurrency

    @property
    def _has_turn(self) -> bool:
        """Whether ordinary pictures are taken now; one batch ahead leaves enough for a full one after it."""
        least = 1 if self._has_free else _FULL_AHEAD * self._batch_sizes[-1]
        return self._ordinary.queued >= least

    def _share(self) -> int:
        """How many one thread takes: those that have nothing to do get as many, and sizes run whole."""
        pictures = -(-self._ordinary.queued // max(1, self._concurrency - len(self._running)))
        return max((size for size in self._batch_sizes if size <= pictures), default=self._batch_sizes[0])

    def _begin(self, pieces: list[Piece], *, background: bool) -> _Batch:
        self._batches += 1
        self._running[self._batches] = batch = _Batch(self._batches, pieces, background)
        if self._has_turn or (self._has_free and self._background.jobs):
            self._wake()
        return batch

    def _end(self, batch: _Batch) -> None:
        with self._lock:
            del self._running[batch.number]
            if batch.background:
                self._spare.ends(batch.began, perf_counter())
                self._wake()

    def _wake(self) -> None:
        """Calls the thread that became idle last: a core still has in its caches what it needs."""
        if self._idle:
            self._idle.pop().notify()

    def _wake_all(self) -> None:
        while self._idle:
            self._wake()

    def _answer(self, pieces: list[Piece]) -> list[_Outcome]:
        """Runs the pieces as one batch; should that fail, each alone, so that only the guilty one fails."""
        images = [piece.images for piece in pieces]
        joined = images[0] if len(images) == 1 else np.concatenate(images)
        by = pieces[0].job.by
        began = perf_counter()
        try:
            prediction = by(joined)
        except Exception as error:  # noqa: BLE001
            # Whatever the engine raises belongs to the callers, and the thread must outlive it.
            if len(pieces) == 1:
                self._forget(pieces[0].job)
                return [(pieces[0], error)]
            return [outcome for piece in pieces for outcome in self._answer([piece])]
        ended = perf_counter()
        if by == self._predict:
            self._took(ended - began, len(joined))
        parts = _split(prediction, [len(each) for each in images])
        return [(piece, Answer(part, len(joined), ended)) for piece, part in zip(pieces, parts, strict=True)]

    def _took(self, seconds: float, pictures: int) -> None:
        with self._lock:
            # One that was in the engine's own line took longer by as much as that kept it.
            in_line = max(1.0, len(self._running) / self._concurrency)
            self._batch_time.observe(pictures, seconds / in_line)

    def _emptied_s(self, queued: int) -> float:
        """How long it takes until a line of so many pictures has been taken."""
        return self._batch_time.estimate(ceil(queued / self._batch_sizes[-1]), queued) / self._concurrency

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._ordinary.drop(job)
            self._background.drop(job)

    def _stop(self, abandoned: list[_Batch]) -> None:
        """Takes nothing more; what waits, and what is in these batches, gets no answer."""
        with self._lock:
            self._closing = True
            jobs = [piece.job for batch in abandoned for piece in batch.pieces]
            jobs += [*self._ordinary.clear(), *self._background.clear()]
            self._wake_all()
        gone = EngineError("The engine of this model version has stopped before it answered.")
        self._deliver([(Piece(job, 0, job.images), gone) for job in jobs])

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        if outcomes:
            # The loop is closed only when nobody waits any more.
            with suppress(RuntimeError):
                outcomes[0][0].job.future.get_loop().call_soon_threadsafe(_settle, outcomes)


def _settle(outcomes: list[_Outcome]) -> None:
    for (job, start, _), outcome in outcomes:
        if job.future.done():
            continue
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
        elif result := job.add(start, outcome):
            job.future.set_result(result)


def _split(prediction: Prediction, counts: list[int]) -> list[Prediction]:
    ends = list(accumulate(counts))
    return [
        Prediction(prediction.probabilities[start:end], prediction.ood_score[start:end])
        for start, end in zip([0, *ends], ends, strict=False)
    ]
