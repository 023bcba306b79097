"""Several calls at the same time, in threads that keep no process from its end.

The threads of `concurrent.futures` are waited for when the process ends, so one that hangs in an engine's
library would keep it for ever.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

_T = TypeVar("_T")


def run(calls: Sequence[Callable[[], _T]], threads: int) -> list[_T]:
    """What they return, in their order, made by at most `threads` threads, the calling one among them.

    The next in line begins when a thread is free. All of them have ended when this does.

    Raises:
        Exception: what the first of those that failed raised.
    """
    line: SimpleQueue[tuple[Callable[[], _T], Future[_T]]] = SimpleQueue()
    futures = [Future[_T]() for _ in calls]
    for each in zip(calls, futures, strict=True):
        line.put(each)
    with suppress(RuntimeError):  # there may be no more threads here; those that there are do all of it
        for _ in range(min(threads, len(calls)) - 1):
            threading.Thread(target=_work, args=(line,), name="parallel", daemon=True).start()
    _work(line)
    wait(futures)
    return [future.result() for future in futures]


def apart(call: Callable[[], _T]) -> _T:
    """What it returns, made by a thread that ends then; by the calling one where there are no more threads.

    Raises:
        Exception: what the call raised.
    """
    future = Future[_T]()
    try:
        threading.Thread(target=_make, args=(call, future), name="apart", daemon=True).start()
    except RuntimeError:
        _make(call, future)
    return future.result()


def _work(line: SimpleQueue[tuple[Callable[[], _T], Future[_T]]]) -> None:
    with suppress(Empty):
        while True:
            _make(*line.get_nowait())


def _make(call: Callable[[], _T], future: Future[_T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001  # it belongs to whoever waits
        future.set_exception(error)
