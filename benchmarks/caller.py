"""Somebody who asks at random moments, over a kept connection or a new one, and checks every answer."""

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from load import HOST, Body

WITHIN_S: Final = 60.0
TRIES: Final = 3
AGREEMENT: Final = 0.01  # in probability: a batch of another size is computed in another order
_KEPT: Final = 0.5  # of the requests, where there is a connection


@dataclass(frozen=True)
class Answer:
    """What a picture deserves; a file that is none has neither label nor probabilities."""

    status: int
    label: str
    probabilities: dict[str, float]

    @classmethod
    def of(cls, status: int, document: Any) -> "Answer":
        if status != HTTPStatus.OK:
            return cls(status, "", {})
        return cls(status, document["label"], document["probabilities"])

    def agrees(self, other: "Answer") -> bool:
        """Whether it says the same, but for the rounding of the engine."""
        if (self.status, self.probabilities.keys()) != (other.status, other.probabilities.keys()):
            return False
        apart = [abs(value - other.probabilities[name]) for name, value in self.probabilities.items()]
        return self.label == other.label and max(apart, default=0.0) <= AGREEMENT


@dataclass(frozen=True)
class Try:
    """One request on its way, at moments of `time.monotonic`; `port` is the client's end of the connection.

    `answer` is None where the connection broke, and `is_right` says whether it is what was expected.
    """

    opened: float
    began: float
    ended: float
    port: int
    answer: Answer | None
    is_right: bool


class Connection:
    """One to the service, which opens when it is made."""

    def __init__(self, port: int) -> None:
        self.opened = time.monotonic()
        self._connection = http.client.HTTPConnection(HOST, port, timeout=WITHIN_S)
        self._connection.connect()
        self.port: int = self._connection.sock.getsockname()[1]

    def ask(self, path: str, body: Body, expected: Answer | None = None) -> Try:
        """Sends it and waits; without an expectation any answer is right."""
        began, answer = time.monotonic(), None
        try:
            self._connection.request("POST", path, body.data, {"Content-Type": body.content_type})
            reply = self._connection.getresponse()
            answer = Answer.of(reply.status, json.loads(reply.read()))
        except (OSError, ValueError, http.client.HTTPException):
            self.close()
        is_right = answer is not None and (expected is None or answer.agrees(expected))
        return Try(self.opened, began, time.monotonic(), self.port, answer, is_right)

    def close(self) -> None:
        self._connection.close()


class Caller(threading.Thread):
    """Asks until it is told to stop, at most `TRIES` times for one answer; `tries` is what came of it.

    `unanswered` counts what it gave up.
    """

    def __init__(
        self, port: int, path: str, questions: Sequence[tuple[Body, Answer]], pause_s: float, seed: int
    ) -> None:
        super().__init__(daemon=True)
        self.tries: list[Try] = []
        self.unanswered = 0
        self._port = port
        self._path = path
        self._questions = questions
        self._pause_s = pause_s
        self._random = random.Random(seed)  # noqa: S311  # load, not secrets
        self._stopped = threading.Event()
        self._kept: Connection | None = None

    def run(self) -> None:
        while not self._stopped.wait(self._random.expovariate(1 / self._pause_s)):
            self._ask(*self._random.choice(self._questions))
        self._leave()

    def stop(self) -> list[Try]:
        """All that it tried."""
        self._stopped.set()
        self.join()
        return self.tries

    def _ask(self, body: Body, expected: Answer) -> None:
        if self._random.random() >= _KEPT:
            self._leave()
        for _ in range(TRIES):
            try:
                self._kept = self._kept or Connection(self._port)
            except OSError:  # nobody listens any more
                break
            made = self._kept.ask(self._path, body, expected)
            self.tries.append(made)
            if made.answer is not None:
                return
            self._leave()
        self.unanswered += 1

    def _leave(self) -> None:
        if self._kept is not None:
            self._kept.close()
        self._kept = None
