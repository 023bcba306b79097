"""Which versions of one model are in memory, on their way in or out, or failed to get in."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Final, NamedTuple

from app import backoff, repository
from app.errors import EngineError, LoadTimeoutError, NotReadyError, ServiceError, VersionNotFoundError
from app.loading import Loader
from app.model import Model, State
from app.repository import Fingerprint

# What failed for want of memory, or on a file system that was away, may be sound after all.
FIRST_PAUSE_S: Final = 60.0
LONGEST_PAUSE_S: Final = 3600.0
_LOG: Final = logging.getLogger(__name__)


class Status(NamedTuple):
    """What a version is doing; `reason` is a sentence if something is wrong with it."""

    state: State
    reason: str = ""


class _Failure(NamedTuple):
    """Why a version could not be loaded, for how many times now, and when that is tried again."""

    error: ServiceError
    times: int
    again_at: float


_READY: Final = Status(State.READY)
_HAS_STOPPED: Final = Status(State.FAILED, "The engine has stopped and is started again.")


class Residents:
    """Belongs to one event loop.

    What has failed is tried again after `first_pause_s`, then ever more rarely; but not what never came to an
    end, since each try would leave a thread behind.
    """

    def __init__(self, name: str, loader: Loader, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._name = name
        self._loader = loader
        self._first_pause_s = first_pause_s
        self._ready: dict[int, Model] = {}
        self._failures: dict[int, _Failure] = {}
        # As they were when they were last tried: with others, there is no need to wait.
        self._files: dict[int, Fingerprint] = {}
        self._draining: dict[asyncio.Task[None], int] = {}
        self._loading: int | None = None
        self._untold: list[tuple[int, ServiceError]] = []

    @property
    def ready(self) -> Mapping[int, Model]:
        """By number; an engine that has stopped since is still among them."""
        return self._ready

    @property
    def failed(self) -> Set[int]:
        """Those that could not be loaded; what was loaded before from other files may be ready."""
        return self._failures.keys()

    @property
    def stopped(self) -> list[int]:
        """Those whose engine has stopped by itself."""
        return [number for number, model in self._ready.items() if not model.alive]

    def status(self, number: int) -> Status:
        """What a version is doing; one that was never heard of counts as one on disk."""
        model = self._ready.get(number)
        if model is not None:
            return _READY if model.alive else _HAS_STOPPED
        if number == self._loading:
            return Status(State.LOADING)
        if number in self._failures:
            return Status(State.FAILED, str(self._failures[number].error))
        return Status(State.DRAINING if number in self._draining.values() else State.AVAILABLE)

    def known(self, published: Iterable[int]) -> dict[int, Status]:
        """The status of these and of every other that is or was to be in memory, by number, ascending."""
        numbers = {*published, *self._ready, *self._failures, *self._draining.values()}
        if self._loading is not None:
            numbers.add(self._loading)
        return {number: self.status(number) for number in sorted(numbers)}

    def find(self, number: int) -> Model:
        """A version that answers.

        Raises:
            NotReadyError: it is being loaded or closed, or has failed.
            VersionNotFoundError: nothing of the kind.
        """
        state, reason = self.status(number)
        if state is State.READY:
            return self._ready[number]
        if state is not State.AVAILABLE:
            raise NotReadyError(reason or f"{self._name} version {number} is {state}.")
        there = ", ".join(map(str, sorted(self._ready))) or "none"
        raise VersionNotFoundError(f"{self._name} has no version {number} in memory; there is: {there}.")

    def is_ready(self, number: int) -> bool:
        return self.status(number).state is State.READY

    def is_settled(self, number: int) -> bool:
        """Whether there is no reason to load a version now: it is ready, or failed a short while ago."""
        if number in self._failures and monotonic() >= self._failures[number].again_at:
            return False
        if number in self._ready:
            return self._ready[number].alive and number in self._files
        return number in self._failures

    def complain(self, number: int) -> None:
        """Does nothing if a version is ready.

        Raises:
            ModelError: this is why it could not be loaded.
        """
        if number in self._failures and not self.is_ready(number):
            raise self._failures[number].error

    async def ensure(self, number: int) -> bool:
        """Whether a version is ready, now that it was loaded unless it failed a short while ago.

        One that is ready and has other files by now goes on answering with the old ones if they fail.
        """
        if not self.is_settled(number):
            await self._load(number)
        return self.is_ready(number)

    def retire(self, numbers: Iterable[int]) -> None:
        """Takes versions out; each is closed when its last request is answered, which nobody waits for."""
        for number in list(numbers):
            if model := self._ready.pop(number, None):
                closing = asyncio.create_task(model.close())
                self._draining[closing] = number
                if number not in self._failures:
                    self._files.pop(number, None)
                closing.add_done_callback(self._closed)

    def forget(self, numbers: Iterable[int] | None = None) -> None:
        """Lets these versions, all that have failed by default, be tried again at once."""
        for number in list(self._failures if numbers is None else numbers):
            self._failures.pop(number, None)
            self._files.pop(number, None)

    def changed(self) -> list[int]:
        """Versions that have other files than when tried. Reads the disk: not for the event loop."""
        found = [(number, tried, self._fingerprint(number)) for number, tried in list(self._files.items())]
        # Where no file is left, there is nothing to take the place of what is in memory.
        return [number for number, tried, now in found if now != tried and (now or number not in self._ready)]

    def tell(self, but: ServiceError | None = None) -> None:
        """Logs what failed since this was last asked for, but not what somebody else will tell."""
        for number, error in self._untold:
            if error is not but:
                _LOG.error("%s version %d does not serve: %s", self._name, number, error)
        self._untold.clear()

    def failure(self) -> ServiceError | None:
        """Why the newest of those that failed did."""
        return self._failures[max(self._failures)].error if self._failures else None

    async def close(self) -> None:
        """Takes all out and waits until they are closed."""
        self.retire(self._ready)
        await asyncio.gather(*self._draining, return_exceptions=True)

    def _failed(self, number: int, error: ServiceError) -> None:
        times = self._failures[number].times + 1 if number in self._failures else 1
        pause_s = backoff.pause_s(times, self._first_pause_s, LONGEST_PAUSE_S)
        again_at = inf if isinstance(error, LoadTimeoutError) else monotonic() + pause_s
        self._failures[number] = _Failure(error, times, again_at)
        self._untold.append((number, error))

    async def _load(self, number: int) -> None:
        self._loading = number  # first, since what is neither in memory nor on its way counts as not there
        files: Fingerprint = ()
        try:
            if number in self.stopped:
                self.retire([number])
            files = await asyncio.to_thread(self._fingerprint, number)
            model = await self._loader.load(self._name, number)
        except asyncio.CancelledError:
            _LOG.info("%s version %d is not waited for any more.", self._name, number)
            raise
        except ServiceError as error:
            self._failed(number, error)
        except Exception as error:  # noqa: BLE001  # or nobody would know, and nothing else be loaded
            _LOG.exception("%s version %d failed for a reason that nobody thought of.", self._name, number)
            self._failed(number, EngineError(f"It failed while it was being loaded: {type(error).__name__}."))
        else:
            self._failures.pop(number, None)
            self.retire([number])
            self._ready[number] = model
        finally:
            self._loading = None
        self._files[number] = files

    def _fingerprint(self, number: int) -> Fingerprint:
        """Empty too if it cannot be read: why that is so, loading it will say."""
        with suppress(OSError):
            return repository.fingerprint(self._loader.repository.folder(self._name, number))
        return ()

    def _closed(self, closing: asyncio.Task[None]) -> None:
        number = self._draining.pop(closing)
        error = None if closing.cancelled() else closing.exception()
        if error is not None:
            _LOG.error("%s version %d did not close: %r", self._name, number, error)
        else:
            _LOG.info("%s version %d is closed.", self._name, number)
