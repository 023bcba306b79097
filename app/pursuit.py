"""Loads what one model lacks, one version after another, and turns away from what is not wanted any more."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from app.errors import NotReadyError
from app.residents import Residents


class Pursuit:
    """Belongs to one event loop.

    `arrange` makes the best of what is in memory, and says which versions have to be loaded, the most urgent
    first. It is asked whenever anything has changed, so nothing waits for a load but what needs that version.
    """

    def __init__(self, residents: Residents, arrange: Callable[[], Sequence[int]]) -> None:
        self._residents: Final = residents
        self._arrange: Final = arrange
        self._number: int | None = None
        self._loading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._has_ended = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to load now."""
        return self._loading is None

    def turn(self) -> None:
        """Makes the best of what there is now, and loads what is most urgent in place of anything else."""
        missing = [] if self._has_ended else self._arrange()
        if not self._goes_on(missing):
            self._abandon()
            if missing:
                self._number = missing[0]
                self._loading = asyncio.create_task(self._load(missing[0]))
        self._news.set()
        self._news = asyncio.Event()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Waits for what a turn brings about.

        Raises:
            NotReadyError: nothing will bring it about any more.
        """
        while not is_so():
            if self._has_ended:
                raise NotReadyError("The service is shutting down.")
            await self._news.wait()

    def end(self) -> None:
        """Loads nothing any more."""
        self._has_ended = True
        self.turn()

    def _goes_on(self, missing: Sequence[int]) -> bool:
        if self._number not in missing:
            return False
        # Another try at what has failed is not worth what has been done so far.
        return missing[0] == self._number or missing[0] in self._residents.failed

    def _abandon(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        self._number = self._loading = None

    async def _load(self, number: int) -> None:
        await self._residents.ensure(number)
        self._number = self._loading = None
        self.turn()
