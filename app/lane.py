"""What waits for an engine: callers' pictures in a line, taken in pieces that fill batches."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.engines import Prediction
from app.errors import OverloadedError

Predict = Callable[[NDArray[np.uint8]], Prediction]


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
class Job:
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


Piece = tuple[Job, NDArray[np.uint8]]


class Lane:
    """Jobs that wait, oldest first; at most `most` pictures."""

    def __init__(self, most: int, what: str) -> None:
        self.jobs: deque[Job] = deque()
        self.queued = 0
        self._most = most
        self._what = what

    def put(self, job: Job, seconds_per_picture: float) -> None:
        added = len(job.images)
        if self.queued + added > self._most:
            raise OverloadedError(
                f"{self.queued} pictures wait for {self._what} and at most {self._most} may; this request "
                f"adds {added}.",
                retry_after_s=seconds_per_picture * self.queued,
            )
        self.jobs.append(job)
        self.queued += added

    def drop(self, job: Job) -> None:
        with suppress(ValueError):
            self.jobs.remove(job)
            self.queued -= job.waiting

    def take(self, room: int) -> list[Piece]:
        """Pieces of at most `room` pictures together, all for the same engine."""
        pieces: list[Piece] = []
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


def _joined(parts: list[Prediction]) -> Prediction:
    if len(parts) == 1:
        return parts[0]
    return Prediction(
        probabilities=np.concatenate([part.probabilities for part in parts]),
        ood_score=np.concatenate([part.ood_score for part in parts]),
    )
