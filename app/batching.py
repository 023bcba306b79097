"""Joins requests that wait at the same time into batches, and never makes one wait for another.

An idle engine starts at once on whatever there is. While it runs, arrivals collect; when it is done it takes
as many of them as fit, oldest first. So no timer delays anybody, and batches grow with load by themselves.
The engine runs in a thread of its own, which goes from batch to batch without passing through the event loop.

What can wait (explanations, a second version's opinion) goes into a lane of its own, which is looked at only
when nothing else waits, a few pictures at a time: whoever comes next waits for no more than these. While
others keep coming it takes one picture and then leaves the engine alone, so that most wait for none.
"""

import asyncio
import threading
from contextlib import suppress
from itertools import accumulate
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.engines import Prediction
from app.errors import EngineError
from app.lane import Job, Lane, Piece, Predict, Result

_Outcome = tuple[Job, Result | Exception]

_SMOOTHING = 0.2  # weight of the newest batch in the average time per picture
_SPARE_BATCH = 8  # most background pictures at once: about 25 ms of two cores for the model that ships
_REST = 20  # times as long as it ran, the background rests while others come: one in twenty meets it
_LOOK_EVERY_S = 0.01
_LATELY_S = 0.25  # after an ordinary picture the next one is expected, and the background goes singly


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
        self._ordinary = Lane(max_queued, "the model")
        self._background = Lane(max_background, "the model's spare time")
        self._lately_s = lately_s
        self._taken_at = -lately_s
        self._background_began: float | None = None
        self._rest_until = 0.0
        self._running: list[Piece] = []
        self._batches = 0
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

    @property
    def batch(self) -> int | None:
        """Which of all batches the engine is at, counted from 1; None while it has nothing to do."""
        return self._batches if self._running else None

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
        job = Job(images, asyncio.get_running_loop().create_future(), by or self._predict)
        self._put(job, lane)
        try:
            return await job.future
        except asyncio.CancelledError:
            with self._changed:
                lane.drop(job)
            raise

    async def close(self) -> None:
        """Takes nothing more, answers what waits and ends the thread, however long that takes."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        # To join it would take another thread, which an engine that hangs would never free.
        while self._thread.is_alive():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY_S)

    def give_up(self) -> None:
        """Takes nothing more and lets nobody wait any longer for a thread that hangs."""
        with self._changed:
            self._closing = True
            unanswered = self._unanswered()
        self._fail(unanswered)

    def _put(self, job: Job, lane: Lane) -> None:
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
            self._fail(self._unanswered())

    def _unanswered(self) -> list[Job]:
        return [*(job for job, _ in self._running), *self._ordinary.jobs, *self._background.jobs]

    def _next_batch(self) -> list[Piece]:
        """Waits for work and takes a full batch of it or all there is; nothing when closing and empty."""
        with self._changed:
            self._running = []
            self._end_background()
            while not (self._ordinary.jobs or self._closing):
                if not self._background.jobs:
                    self._changed.wait()
                elif (rest_s := self._rest_s()) > 0:
                    self._changed.wait(rest_s)
                else:
                    self._background_began = perf_counter()
                    return self._begin(self._background.take(self._background_batch()))
            if not self._ordinary.jobs:
                return []
            self._taken_at = perf_counter()
            return self._begin(self._ordinary.take(self._max_batch))

    def _begin(self, pieces: list[Piece]) -> list[Piece]:
        self._batches += 1
        self._running = pieces
        return pieces

    def _rest_s(self) -> float:
        """How long the background still leaves the engine to whoever may come."""
        return self._rest_until - perf_counter() if self._is_busy_lately() else 0.0

    def _end_background(self) -> None:
        if self._background_began is not None:
            now = perf_counter()
            self._rest_until = now + _REST * (now - self._background_began)
            self._background_began = None

    def _background_batch(self) -> int:
        """Single pictures while others are likely to come; more, which is faster, where nobody does."""
        return 1 if self._is_busy_lately() else min(_SPARE_BATCH, self._max_batch)

    def _is_busy_lately(self) -> bool:
        return perf_counter() - self._taken_at < self._lately_s

    def _answer(self, pieces: list[Piece]) -> list[_Outcome]:
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

    def _forget(self, job: Job) -> None:
        with self._changed:
            self._ordinary.drop(job)
            self._background.drop(job)

    def _fail(self, jobs: list[Job]) -> None:
        gone = EngineError("The engine of this model version has stopped before it answered.")
        self._deliver([(job, gone) for job in jobs])

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
