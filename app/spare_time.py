"""When pictures that can wait may have an engine, so that hardly anybody else notices."""

from typing import Final

_SPARE_BATCH: Final = 8  # most at once: about 25 ms of a core for the model that ships
_REST: Final = 20  # times as long as it ran, the background rests while others come: one in twenty meets it


class SpareTime:
    """Watches what an engine does. All times are those of `perf_counter`, in seconds.

    While ordinary pictures keep coming, one of the background goes at a time, and then it leaves the engine
    alone. Where nobody came for `lately_s`, it goes several at a time and in every thread.
    """

    def __init__(self, most: int, lately_s: float) -> None:
        self._most = min(_SPARE_BATCH, most)
        self._lately_s = lately_s
        self._ordinary_at = -lately_s
        self._at_work = 0
        self._rest_until = 0.0

    def ordinary_begins(self, now: float) -> None:
        """The next ordinary picture is expected soon."""
        self._ordinary_at = now

    def begins(self) -> None:
        """A batch of the background is taken."""
        self._at_work += 1

    def ends(self, began: float, now: float) -> None:
        """That batch is done."""
        self._at_work -= 1
        self._rest_until = now + _REST * (now - began)

    def rest_s(self, now: float) -> float | None:
        """How long the engine is still to be left to others; None until the batch at work has ended."""
        if not self._is_busy(now):
            return 0.0
        return None if self._at_work else max(0.0, self._rest_until - now)

    def pictures(self, now: float) -> int:
        """How many may be taken at once."""
        return 1 if self._is_busy(now) else self._most

    def _is_busy(self, now: float) -> bool:
        return now - self._ordinary_at < self._lately_s
