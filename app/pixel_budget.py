"""Bounds the memory that pictures take while they are decoded, however many threads decode."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

FREE_PIXELS: Final = 1_000_000  # a picture of fewer waits for nobody


class PixelBudget:
    """At most `most` pixels are held at once; a picture of more is held when no other is."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def held(self, pixels: int) -> Iterator[None]:
        """Waits until there is room for so many; a large picture is not passed by smaller ones for ever."""
        if pixels < FREE_PIXELS:
            yield
            return
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._most)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify()
