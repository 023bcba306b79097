"""Who computes in what memory, for engines whose cores each have a batch of their own."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from app.errors import EngineError

_T = TypeVar("_T")

# Batches at the same time; each needs memory of its own. Eight cores compute more than one process can decode
# and send, so where there are more, they have something else to do.
_MOST_AT_ONCE: Final = 8


def concurrency(cores: int, streams: int) -> int:
    """How many batches so many cores compute at the same time: `streams`, 0 for one each, up to eight."""
    return min(cores, streams or _MOST_AT_ONCE)


class Lending(Generic[_T]):
    """Lends what a lone picture is computed in, by all cores, and what batches are, by a core each.

    When it is closed and nothing is lent, `release` is called, and all of it is let go.
    """

    def __init__(self, alone: _T, beside: Sequence[_T], release: Callable[[], object] = lambda: None) -> None:
        self._alone = [alone]
        self._beside = list(beside)
        self._release = release
        self._lock = threading.Lock()
        self._lent = 0
        self._is_closed = False

    @contextmanager
    def lent(self, pictures: int) -> Iterator[_T]:
        """What computes so many: all cores if there is one and nobody else is at work, else one.

        Raises:
            EngineError: it was closed.
        """
        with self._lock:
            if self._is_closed:
                raise EngineError("The engine was closed.")
            source = self._alone if pictures == 1 and not self._lent else self._beside
            memory = source.pop()
            self._lent += 1
        try:
            yield memory
        finally:
            with self._lock:
                source.append(memory)
                self._lent -= 1
                self._let_go()

    def close(self) -> None:
        """Lends nothing any more; may be called again."""
        with self._lock:
            self._is_closed = True
            self._let_go()

    def _let_go(self) -> None:
        if self._is_closed and not self._lent and self._beside:
            self._release()
            self._alone.clear()
            self._beside.clear()
