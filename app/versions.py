"""One model: which of its versions answers, what its labels point to, and who decides that.

Three may decide: the policy and the pinned version of the settings, the file in the model's folder, and calls
of the API. The calls write the file, so a restart and other processes follow them; where it cannot be written
they hold in this process alone.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from app import deployment, repository
from app.deployment import Deployment, Policy
from app.errors import (
    ConflictError,
    DeploymentError,
    LabelNotFoundError,
    ModelNotFoundError,
    NotReadyError,
    ServiceError,
    VersionNotFoundError,
)
from app.loading import Loader
from app.manifest import Manifest
from app.model import Model, State
from app.repository import Fingerprint
from app.residents import Residents, Status

_LOG: Final = logging.getLogger(__name__)


class Versions:
    """Belongs to one event loop. Whatever fails with other versions, the live one goes on answering.

    `pinned` is the only version that may be live, whatever else is decided, and `shadow` one that is kept in
    memory for comparison; so many `workers` serve it. `problem` says what is wrong with the file, and
    `persisted` whether it holds all that calls have decided.
    """

    def __init__(
        self,
        name: str,
        loader: Loader,
        policy: Policy,
        pinned: int | None = None,
        shadow: int | None = None,
        workers: int = 1,
    ) -> None:
        self.name: Final = name
        self.pinned: Final = pinned
        self.shadow: Final = shadow
        self.residents: Final = Residents(name, loader)
        self.decisions = Deployment()
        self.problem = ""
        self.persisted = True
        self._workers = workers
        self._repository = loader.repository
        self._policy = policy
        self._file = loader.repository.folder(name) / deployment.FILE_NAME
        self._file_seen: Fingerprint = ()
        self._published: list[int] = []
        self._live: int | None = None
        self._labels: dict[str, int] = {}
        self._has_started = False
        self._changing = asyncio.Lock()

    @property
    def live(self) -> Model:
        """The version that answers what names none.

        Raises:
            NotReadyError: there is none yet, or its engine has stopped.
        """
        model = None if self._live is None else self.residents.ready.get(self._live)
        if model is None or not model.alive:
            raise NotReadyError(self.reason)
        return model

    @property
    def reason(self) -> str:
        """Why none answers, in a sentence; empty if one does."""
        being_loaded = f"The model {self.name} is being loaded."
        if self._live is not None:
            state, reason = self.residents.status(self._live)
            return reason if reason or state is State.READY else being_loaded
        if not self._has_started:
            return being_loaded
        if not self.decisions.serve:
            return f"The model {self.name} was unloaded."
        failure = self.residents.failure()
        return f"No version of the model {self.name} is published." if failure is None else str(failure)

    @property
    def is_lost(self) -> bool:
        """Whether the version that answered has stopped, could not be loaded anew, and no other took over."""
        if self._live is None or self._live in self.residents.ready:
            return False
        return self.residents.status(self._live).state is State.FAILED

    @property
    def labels(self) -> Mapping[str, int]:
        """What each label points to: versions that are ready."""
        return self._labels

    def find(self, number: int | None = None, label: str | None = None) -> Model:
        """The version with this number or label, the live one if neither is given.

        Raises:
            NotReadyError: it is being loaded or closed, or has failed.
            VersionNotFoundError, LabelNotFoundError: it is not in memory.
        """
        if number is None and label is None:
            return self.live
        if not self._has_started:
            raise NotReadyError(self.reason)
        if label is not None:
            number = self._labels.get(label)
        if number is None:
            there = ", ".join(sorted(self._labels)) or "none"
            raise LabelNotFoundError(f"{self.name} has no label {label!r}; there is: {there}.")
        return self.residents.find(number)

    def is_live(self, number: int) -> bool:
        return number == self._live

    def known(self) -> dict[int, Status]:
        """Every version in memory or that should be, and those on disk when that was last looked at."""
        known = self.residents.known(self._published)
        if not self._has_started and self._published:
            # Between the first look and the loader's turn.
            known[self._candidates()[0]] = Status(State.LOADING)
        return known

    async def listed(self) -> dict[int, Status]:
        """The same with what is on disk now."""
        with suppress(OSError):
            published = await asyncio.to_thread(self._repository.versions, self.name)
            self._published = published or self._published
        return self.known()

    def stated(self, number: int) -> Manifest:
        """What a version says of itself; reads the disk unless it is in memory.

        Raises:
            VersionNotFoundError: it is not published.
            ManifestError: its manifest cannot be used.
        """
        model = self.residents.ready.get(number)
        return self._repository.stated(self.name, number) if model is None else model.manifest

    async def start(self) -> None:
        """Loads what is asked for.

        Raises:
            ModelError: no version can answer.
        """
        async with self.changing():
            await self._arrange()
        try:
            await self.complain()
        except ServiceError as error:
            self.residents.tell(but=error)
            if isinstance(error, VersionNotFoundError):
                raise VersionNotFoundError(f"{error} {self._asked_for()}") from error
            raise
        self.residents.tell()

    async def follow(self) -> None:
        """Brings memory in line with the folder; what fails is told in the log and by `known`."""
        async with self.changing():
            await self._arrange()
        self.residents.tell()

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """For one change at a time, made on what the folder holds now."""
        async with self._changing:
            await self._look()
            yield

    async def decide(self, change: Callable[[Deployment], Deployment]) -> None:
        """Writes down what a change makes of the decisions, and carries it out; only while `changing`.

        Raises:
            ConflictError: it cannot be written, so the other workers would not follow.
        """
        before = self.decisions
        try:
            # In one go, which goes on to its end though nobody may wait for it any more: it holds a lock.
            await asyncio.to_thread(self._write_down, change)
        except DeploymentError as error:
            if self._workers > 1:
                self.decisions = before
                raise ConflictError(
                    f"{error} One of {self._workers} workers alone would follow this call: let the service "
                    "write there, or change the file where it comes from."
                ) from error
            self.persisted = False
            _LOG.warning("%s The decision holds in this process, until it ends.", error)
        await self._arrange()

    def kept_by_policy(self) -> set[int]:
        """Versions that the settings keep in memory besides the live one."""
        return set(self._policy.kept(self._published))

    async def close(self) -> None:
        """Closes every version when its last request is answered."""
        self._live, self._labels = None, {}
        await self.residents.close()

    async def _look(self) -> None:
        try:
            file_seen, published, changed = await asyncio.to_thread(self._read)
        except OSError as error:
            raise DeploymentError(f"Cannot read {self._file.parent}: {error.strerror}.") from error
        if self._published and not published:
            # A folder that is suddenly empty is one that is not mounted: no reason to give up what is in
            # memory or was decided.
            return
        self._published = published
        self.residents.forget(changed)
        if file_seen == self._file_seen:
            return
        self._file_seen = file_seen
        try:
            self.decisions = await asyncio.to_thread(deployment.read, self._file)
            self.problem, self.persisted = "", True
        except DeploymentError as error:
            self.problem = str(error)
            if self._has_started:
                _LOG.error("%s What was decided before holds until it is put right.", error)

    def _write_down(self, change: Callable[[Deployment], Deployment]) -> None:
        """While a version was loaded, another process may have decided something too.

        Raises:
            DeploymentError: it holds, but cannot be written.
        """
        with deployment.locked(self._file.parent):
            before = self._decided_by_now()
            self.decisions = change(before)
            if self.decisions != before or self.problem:
                deployment.write(self._file, self.decisions)
                self.problem, self.persisted = "", True

    def _decided_by_now(self) -> Deployment:
        with suppress(OSError, DeploymentError):
            there = self._repository.versions(self.name)  # or else the folder is suddenly gone
            if there and repository.fingerprint(self._file) != self._file_seen:
                return deployment.read(self._file)
        return self.decisions

    def _read(self) -> tuple[Fingerprint, list[int], list[int]]:
        published = self._repository.versions(self.name)
        return repository.fingerprint(self._file), published, self.residents.changed()

    async def _arrange(self) -> None:
        """Loads what is wanted, makes the right one live in one step, and closes what is not wanted."""
        if self.decisions.serve:
            await self._choose_live()
            for number in self._wanted():
                await self.residents.ensure(number)
            await self._point_labels()
            kept = {self._live, *self._labels.values(), *self._wanted()}
        else:
            self._live, self._labels, kept = None, {}, set()
        self._has_started = True
        self.residents.retire(self.residents.ready.keys() - kept)
        # What nobody asks for any more, and is not there either, was a number mistyped.
        self.residents.forget(self.residents.failed - kept - {*self._candidates(), *self._published})

    async def _choose_live(self) -> None:
        """The first candidate that is sound; if none is, whatever answers now."""
        for number in self._candidates():
            if await self.residents.ensure(number):
                if number != self._live:
                    _LOG.info("%s version %d is live.", self.name, number)
                self._live = number
                return
        if self._live is not None:
            await self.residents.ensure(self._live)

    def _candidates(self) -> list[int]:
        chosen = self.pinned or self.decisions.live
        return self._policy.candidates(self._published) if chosen is None else [chosen]

    def _asked_for(self) -> str:
        """Who asks for a version that may not be there, and what to do about it."""
        if self.pinned is not None:
            return (
                f"CLASSIFIER_MODEL_VERSION (--model-version) asks for version {self.pinned}: set it to one "
                "that is there, or to latest."
            )
        if self.decisions.live is not None:
            return (
                f"{self._file} asks for version {self.decisions.live}: let it name one that is there, or "
                'take "live" out of it.'
            )
        return "CLASSIFIER_VERSION_POLICY (--version-policy) asks for it: set it to some that are there."

    def _wanted(self) -> list[int]:
        """Versions to have besides the live one, the newest first."""
        kept = self.kept_by_policy() - self.decisions.unloaded
        shadow = set() if self.shadow is None else {self.shadow}
        return sorted(kept | self.decisions.loaded | {*self.decisions.labels.values()} | shadow, reverse=True)

    async def _point_labels(self) -> None:
        """A label whose new version does not load keeps its old one, if that is still there."""
        pointing = dict[str, int]()
        for name, number in self.decisions.labels.items():
            for sound in (number, self._labels.get(name)):
                if sound is not None and await self.residents.ensure(sound):
                    pointing[name] = sound
                    break
        self._labels = pointing

    async def complain(self) -> None:
        """Does nothing if a version is live, or none should be, and what was decided can be read.

        Raises:
            ModelError: this is why none is.
        """
        if self.problem:
            raise DeploymentError(self.problem)
        if not self.decisions.serve or self._live is not None:
            return
        error = self.residents.failure()
        if error is None:
            await asyncio.to_thread(self._repository.open, self.name)
            error = ModelNotFoundError(f"No version of {self.name} may answer.")
        raise error
