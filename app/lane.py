"""What waits for an engine: callers' pictures in a line, taken in pieces that fill batches."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.engines import Prediction
from app.errors import OverloadedError

Predict = Callable[[NDArray[np.uint8]], Prediction]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """An answer and where its time went.

    `queued_s` is the wait before the first picture was taken and `infer_s` the time from then until the last
    one was answered, in seconds; `batch_pictures` is the size of the largest batch that any of its pictures
    was in.
    """

    prediction: Prediction
    queued_s: float
    infer_s: float
    batch_pictures: int


class Answer(NamedTuple):
    """What an engine said of a piece, in a batch of `batch_pictures` that ended at `ended`."""

    prediction: Prediction
    batch_pictures: int
    ended: float


@dataclass(slots=True, eq=False)
class Job:
    """One caller's pictures; those that do not fit into one batch are taken in several pieces.

    Pieces may be answered at the same time and in any order. Taking them needs the lock of whoever owns the
    lane; the answers are put together in the event loop.
    """

    images: NDArray[np.uint8]
    future: asyncio.Future[Result]
    by: Predict
    submitted: float = field(default_factory=perf_counter)
    started: float = 0.0
    taken: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return len(self.images) - self.taken

    def take(self, most: int) -> "Piece":
        self.started = self.started or perf_counter()
        piece = Piece(self, self.taken, self.images[self.taken : self.taken + most])
        self.taken += len(piece.images)
        return piece

    def add(self, start: int, answer: Answer) -> Result | None:
        """The result, once every picture has its answer; `start` is the place of the first in this piece."""
        if len(answer.prediction.probabilities) == len(self.images):  # as nearly always, all in one piece
            return self._result(answer.prediction, answer.ended, answer.batch_pictures)
        self.answers[start] = answer
        answers = self.answers.values()
        if sum(len(each.prediction.probabilities) for each in answers) < len(self.images):
            return None
        return self._result(
            Prediction.joined([self.answers[place].prediction for place in sorted(self.answers)]),
            max(each.ended for each in answers),
            max(each.batch_pictures for each in answers),
        )

    def _result(self, prediction: Prediction, ended: float, batch_pictures: int) -> Result:
        return Result(prediction, self.started - self.submitted, ended - self.started, batch_pictures)


class Piece(NamedTuple):
    """Pictures of one job that go into one batch, from the place `start` on."""

    job: Job
    start: int
    images: NDArray[np.uint8]


class Lane:
    """Jobs that wait, oldest first; at most `most` pictures."""

    def __init__(self, most: int, what: str) -> None:
        self.jobs: deque[Job] = deque()
        self.queued = 0
        self._most = most
        self._what = what

    def put(self, job: Job, emptied_s: Callable[[int], float], *, reserved: bool = False) -> None:
        """At the end; `emptied_s` tells how many seconds a line of so many pictures takes.

        Whoever has let in a job and counted its pictures says that its places are `reserved`.

        Raises:
            OverloadedError: there is no room for so many more.
        """
        added = len(job.images)
        if self.queued + added > self._most and not reserved:
            raise OverloadedError(
                f"{self.queued} pictures wait for {self._what} and at most {self._most} may; this request "
                f"adds {added}.",
                retry_after_s=emptied_s(self.queued),
            )
        self.jobs.append(job)
        self.queued += added

    def drop(self, job: Job) -> None:
        with suppress(ValueError):
            self.jobs.remove(job)
            self.queued -= job.waiting

    def clear(self) -> list[Job]:
        """Drops all of them; which these were."""
        jobs = list(self.jobs)
        self.jobs.clear()
        self.queued = 0
        return jobs

    def take(self, room: int) -> list[Piece]:
        """Pieces of at most `room` pictures together, all for the same engine."""
        pieces: list[Piece] = []
        while self.jobs and room:
            job = self.jobs[0]
            if pieces and pieces[0].job.by != job.by:
                break
            piece = job.take(room)
            pieces.append(piece)
            room -= len(piece.images)
            self.queued -= len(piece.images)
            if not job.waiting:
                self.jobs.popleft()
        return pieces
