"""Several processes that serve from one socket, and the one that looks after them.

The socket stays open here, so whatever becomes of a worker, connections are taken by the others or wait for
its successor. Each worker gets its share of the cores. The first one answers probes while it loads; the
others start when it is ready and listen when they are, so that nobody is ever told both. A worker that ends
is replaced: at once, then after a pause that doubles as long as they keep ending. If one ends before it was
ready and nobody else answers, there is nothing to wait for, and so all of it ends.
"""

import logging
import logging.config
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from time import monotonic
from types import FrameType
from typing import Any, Final, NamedTuple, Self

from app import backoff, logs, shared_metrics
from app.cores import available_cores
from app.errors import CANNOT_GO_ON
from app.settings import Settings

# A worker that lived as long as this did not end because of how it began.
LONG_LIFE_S: Final = 60.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
# Beyond what a worker gives itself: to close its engine, and to be seen.
STOP_GRACE_S: Final = 7.0
# Much longer than anything that holds Python's lock takes.
STUCK_S: Final = 30.0
_TICK_S: Final = 0.2
# How a worker ends that somebody told to; by the signal itself if that was before it could hear it.
_AS_TOLD: Final = (0, -signal.SIGTERM, -signal.SIGINT)
_LOG: Final = logging.getLogger("app.workers")

# Fresh interpreters: a copy of this one would have its locks, but not the threads that hold them.
_PROCESSES: Final = multiprocessing.get_context("spawn")


class Signs(NamedTuple):
    """What a worker gives of itself: that it can answer, and again and again that its event loop turns.

    Both are numbers in memory that the processes share. With an event, a worker that is killed at the wrong
    moment would keep its lock, and the supervisor would wait for it for ever.
    """

    ready: Any
    turns: Any

    @classmethod
    def new(cls) -> Self:
        return cls(_PROCESSES.RawValue("B"), _PROCESSES.RawValue("L"))

    def be_ready(self) -> None:
        self.ready.value = 1

    def turn(self) -> None:
        self.turns.value += 1


# What a worker does, given its place, the settings, the socket, the signs that it is to give, and whether it
# is to listen only when it can answer.
Work = Callable[[int, Settings, socket.socket, Signs, bool], None]


def run(settings: Settings, listener: socket.socket) -> int:
    """Serves with `settings.workers` processes until a signal comes; the exit code is 0 after an orderly end.

    Raises:
        SettingsError: there is no room for what they count.
    """
    logging.config.dictConfig(logs.configuration(settings.log_format, settings.log_level))
    with shared_metrics.kept(settings.workers):
        return Supervisor(settings, listener, serve).run()


def _with_its_share(settings: Settings, place: int) -> Settings:
    """With a worker's share of the cores where the settings leave the number of threads open."""
    each, left = divmod(available_cores(), settings.workers)
    cores = max(1, each + (place <= left))
    return settings.model_copy(
        update={
            "engine_threads": settings.engine_threads or cores,
            "decode_threads": settings.decode_threads or cores,
        }
    )


class _Worker:
    """One place among the workers and whoever is in it. `ends` counts short lives, one after the other."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.process: SpawnProcess | None = None
        self.signs = Signs.new()
        self.turns = self.same_looks = 0
        self.looked_at = 0.0
        self.ends = 0
        self.began_at = 0.0
        self.start_at = 0.0

    @property
    def answers(self) -> bool:
        return self.process is not None and self.process.exitcode is None and bool(self.signs.ready.value)

    def is_stuck(self) -> bool:
        """Whether its event loop has not turned for so many looks, of which none follows another at once.

        Looks count, not the time between two moments, in which the machine may have slept.
        """
        turns, now = self.signs.turns.value, monotonic()
        if turns != self.turns or not self.answers:
            self.turns, self.same_looks, self.looked_at = turns, 0, now
        elif now >= self.looked_at + _TICK_S:
            self.same_looks, self.looked_at = self.same_looks + 1, now
        return self.same_looks * _TICK_S >= STUCK_S


class Supervisor:
    """Starts `work` in `settings.workers` processes and keeps as many running until it is told to stop."""

    def __init__(self, settings: Settings, listener: socket.socket, work: Work) -> None:
        self._settings = settings
        self._listener = listener
        self._work = work
        self._workers = [_Worker(place) for place in range(1, settings.workers + 1)]
        self._received: list[int] = []
        self._kill_at: float | None = None
        self._code = 0

    def run(self) -> int:
        """Until SIGTERM or SIGINT; 0, or something else if a worker could not start or did not stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)
        while self._kill_at is None or self._running():
            self._tend()
            wait([process.sentinel for process in self._running()], timeout=_TICK_S)
        return self._code

    def _running(self) -> list[SpawnProcess]:
        return [worker.process for worker in self._workers if worker.process is not None]

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._received.append(number)

    def _tend(self) -> None:
        while self._received:
            self._stop(self._received.pop(0))
        for worker in self._workers:
            self._look_after(worker)
        if self._kill_at is not None and monotonic() >= self._kill_at:
            for process in self._running():
                _LOG.error("Worker process %d did not stop in time and is killed.", process.pid)
                process.kill()
            self._code = self._code or CANNOT_GO_ON
            self._kill_at = monotonic() + STOP_GRACE_S

    def _look_after(self, worker: _Worker) -> None:
        if worker.process is None:
            if self._may_start(worker):
                self._start(worker)
        elif worker.process.exitcode is not None:
            self._bury(worker, worker.process)
        elif worker.is_stuck():
            # The others answer probes, so nobody else would notice; no signal that it handles reaches it.
            _LOG.error("Worker %d has answered nothing for %g s and is killed.", worker.place, STUCK_S)
            worker.process.kill()
            worker.same_looks = 0  # until it is seen to have ended

    def _may_start(self, worker: _Worker) -> bool:
        if self._kill_at is not None or monotonic() < worker.start_at:
            return False
        return self._anyone_answers() or not self._running()

    def _anyone_answers(self) -> bool:
        return any(worker.answers for worker in self._workers)

    def _start(self, worker: _Worker) -> None:
        worker.signs.ready.value = 0
        worker.began_at = monotonic()
        patient = self._anyone_answers()
        settings = _with_its_share(self._settings, worker.place)
        worker.process = _PROCESSES.Process(
            target=self._work, args=(worker.place, settings, self._listener, worker.signs, patient)
        )
        worker.process.start()
        _LOG.info(
            "Worker %d of %d starts as process %d.", worker.place, len(self._workers), worker.process.pid
        )

    def _bury(self, worker: _Worker, process: SpawnProcess) -> None:
        code = process.exitcode or 0
        worker.process = None
        process.close()
        shared_metrics.leave(worker.place)
        if self._kill_at is not None:
            if code not in _AS_TOLD:
                self._code = self._code or CANNOT_GO_ON
        elif not (worker.signs.ready.value or self._anyone_answers() or code in _AS_TOLD):
            _LOG.critical("Worker %d %s before it was ready; giving up.", worker.place, _ended(code))
            self._code = code if code > 0 else CANNOT_GO_ON
            self._stop(signal.SIGTERM)
        else:
            self._plan_successor(worker, code)

    def _plan_successor(self, worker: _Worker, code: int) -> None:
        now, as_told = monotonic(), code in _AS_TOLD
        was_good = now - worker.began_at >= LONG_LIFE_S or (as_told and worker.signs.ready.value)
        worker.ends = 0 if was_good else worker.ends + 1
        pause_s = backoff.pause_s(worker.ends - 1, FIRST_PAUSE_S, LONGEST_PAUSE_S) if worker.ends > 1 else 0.0
        worker.start_at = now + pause_s
        level = logging.INFO if as_told else logging.ERROR
        _LOG.log(level, "Worker %d %s; a new one starts in %.1f s.", worker.place, _ended(code), pause_s)

    def _stop(self, number: int) -> None:
        """Passes a signal on; from the first one, nobody is replaced any more."""
        for process in self._running():
            if process.exitcode is None and process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        if self._kill_at is None:
            # The workers hold the socket until they have drained; then nobody shall wait in its queue.
            self._listener.close()
            settings = self._settings
            self._kill_at = monotonic() + settings.drain_s + settings.shutdown_timeout_s + STOP_GRACE_S


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def serve(place: int, settings: Settings, listener: socket.socket, signs: Signs, patient: bool) -> None:
    """What a worker does from its first moment on; see `Work`."""
    os.setpgid(0, 0)  # Ctrl-C goes to the supervisor alone, which passes it on once
    threading.Thread(target=_end_with_parent, name="supervised", daemon=True).start()
    shared_metrics.join(place)
    logging.config.dictConfig(logs.configuration(settings.log_format, settings.log_level))
    # Only here: the supervisor needs none of it.
    from app import start

    start.run(settings, listener, signs.be_ready, signs.turn, waits_for_model=patient)


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
