"""Kills and stops the workers of a service, and knows which connections each of the killed ones held."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Final

import connections
import processes
from caller import Try
from server import Server

REST_S: Final = (2.0, 6.0)  # between two disturbances
STOP_EVERY: Final = 3
LOADING_EVERY: Final = 3  # a worker may still be loading, and so hold nothing
STOPPED_S: Final = 2.0
LOOK_EVERY_S: Final = 0.1
FROZEN_WITHIN_S: Final = 10.0


@dataclass(frozen=True)
class Kill:
    """A worker that was frozen, and then killed, at moments of `time.monotonic`, and the clients it held."""

    frozen: float
    killed: float
    clients: frozenset[int]

    def broke(self, tried: Try) -> bool:
        """Whether it ended the connection."""
        is_in_time = tried.opened <= self.killed and tried.ended >= self.frozen
        return tried.port in self.clients and is_in_time

    def cost(self, tried: Try) -> bool:
        """Whether the request was on its way then; another one finds a connection that is closed."""
        return self.broke(tried) and tried.began <= self.killed


class Disturber:
    """Kills and stops workers of a service, one after the other."""

    def __init__(self, server: Server, seed: int) -> None:
        self.kills: list[Kill] = []
        self.stops = 0
        self._server = server
        self._random = random.Random(seed)  # noqa: S311  # a plan, not secrets

    def run(self, until: float) -> None:
        """Until a moment of `time.monotonic`, or until the service has ended."""
        for turn in count(1):
            victim = self._next(until)
            if victim is None:
                return
            if turn % STOP_EVERY:
                self._kill(victim)
            else:
                self._stop(victim)
            time.sleep(self._random.uniform(*REST_S))

    def _next(self, until: float) -> int | None:
        """Whom it is to hit, as soon as there is one; None if nobody is any more."""
        may_load = not self._random.randrange(LOADING_EVERY)
        while time.monotonic() < until and lives(self._server):
            victim = self._victim(may_load=may_load)
            if victim is not None:
                return victim
            time.sleep(LOOK_EVERY_S)
        return None

    def _victim(self, *, may_load: bool) -> int | None:
        """One that takes connections, or any if it may still load; never the only one that takes them."""
        found = workers(self._server)
        taking = {worker for worker in found if connections.takes(worker, self._server.port)}
        may = [worker for worker in found if (may_load or worker in taking) and taking - {worker}]
        return self._random.choice(may) if may else None

    def _kill(self, victim: int) -> None:
        with frozen(victim):
            began, clients = time.monotonic(), connections.held(victim, self._server.port)
            os.kill(victim, signal.SIGKILL)
        self.kills.append(Kill(began, time.monotonic(), frozenset(clients)))

    def _stop(self, victim: int) -> None:
        with frozen(victim):
            time.sleep(STOPPED_S)
        self.stops += 1


@contextmanager
def frozen(process: int) -> Iterator[None]:
    """It does nothing meanwhile."""
    os.kill(process, signal.SIGSTOP)
    try:
        wait_for(lambda: processes.state(process) in ("T", ""), FROZEN_WITHIN_S)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def lives(server: Server) -> bool:
    return server.process is not None and server.process.poll() is None


def workers(server: Server) -> list[int]:
    """The processes that answer or are about to, in the order in which they were started."""
    return sorted(process for process in server.own if b"spawn_main" in processes.command(process))


def is_whole(server: Server, count: int) -> bool:
    """Whether so many take connections, and no other one is about to."""
    found = workers(server)
    return len(found) == count and all(connections.takes(worker, server.port) for worker in found)


def wait_for(condition: Callable[[], bool], within_s: float) -> bool:
    """Whether it came true in time."""
    ends_at = time.monotonic() + within_s
    while not (holds := condition()) and time.monotonic() < ends_at:
        time.sleep(LOOK_EVERY_S)
    return holds
