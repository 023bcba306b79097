"""Loads a model anew whose engine has stopped: what ends one thread by mistake must not end the service."""

import asyncio
import logging
from collections.abc import Iterable
from time import monotonic
from typing import Final

from app import backoff
from app.errors import ServiceError
from app.versions import Versions

# An engine that ran as long as this did not stop because of how it began.
LONG_LIFE_S: Final = 60.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
_LOG: Final = logging.getLogger(__name__)


class Revival:
    """Watches over the engines of one model. `deaths` counts those that followed each other closely."""

    def __init__(self, versions: Versions) -> None:
        self.deaths = 0
        self._versions = versions
        self._last_at = -LONG_LIFE_S

    async def look(self) -> None:
        """Does nothing while all are well, or if the last time was too short ago."""
        stopped, now = self._versions.residents.stopped, monotonic()
        if not stopped or now < self._last_at + self._pause_s:
            return
        self.deaths = 1 if now - self._last_at >= LONG_LIFE_S else self.deaths + 1
        self._last_at = now
        numbers = ", ".join(map(str, stopped))
        _LOG.error(
            "The engine of %s version %s has stopped and is started again.", self._versions.name, numbers
        )
        try:
            await self._versions.follow()
        except ServiceError as error:
            _LOG.error("%s", error)
        except Exception as error:  # noqa: BLE001
            # Whoever looks after all engines must not end by the one that cannot be helped now.
            _LOG.error("Cannot start %s again: %r", self._versions.name, error, exc_info=error)

    @property
    def _pause_s(self) -> float:
        """At once the first time, then after ever longer."""
        return backoff.pause_s(self.deaths, FIRST_PAUSE_S, LONGEST_PAUSE_S) if self.deaths else 0.0


class Revivals:
    """Those of all models. None waits for another, and whoever looks for none: loading may take minutes."""

    def __init__(self) -> None:
        self._of: dict[Versions, Revival] = {}
        self._at_work: dict[Versions, asyncio.Task[None]] = {}

    def look(self, models: Iterable[Versions]) -> None:
        """Begins to start again what has stopped, where that has not begun yet."""
        for versions in models:
            at_work = self._at_work.get(versions)
            if versions.residents.stopped and (at_work is None or at_work.done()):
                revival = self._of.setdefault(versions, Revival(versions))
                self._at_work[versions] = asyncio.create_task(revival.look())
