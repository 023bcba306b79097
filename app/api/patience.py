"""`asyncio.timeout` for the way of every request, without what that can do besides."""

import asyncio
from types import TracebackType
from typing import Self


class patience:  # noqa: N801  # a context manager, named as those of the standard library are
    """Cancels what is awaited inside after so many seconds, or as soon as `end` is called.

    A cancellation that comes from elsewhere passes, whichever of the two is first.

    Raises:
        TimeoutError: it was cancelled by this.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.is_over = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "there is nobody to interrupt outside of a task"  # noqa: S101
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if not self.is_over:
            self.is_over = True
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def end(self) -> None:
        """Gives up now."""
        if not self.is_over:
            self.is_over = True
            self._task.cancel()
