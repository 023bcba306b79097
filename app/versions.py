"""One model: which of its versions answers, what its labels point to, and who decides that.

Three may decide: the policy and the pinned version of the settings, the file in the model's folder, and calls
of the API. The calls write the file, so a restart and other processes follow them; where it cannot be written
they hold in this process alone.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
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

    `pinned` is the only version that may be live, whatever else is decided. `problem` says what is wrong with
    the file, and `persisted` whether it holds all that calls have decided.
    """

    def __init__(self, name: str, loader: Loader, policy: Policy, pinned: int | None = None) -> None:
        self.name: Final = name
        self.pinned: Final = pinned
        self.residents: Final = Residents(name, loader)
        self.decisions = Deployment()
        self.problem = ""
        self.persisted = True
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
        if self._live is None:
            raise NotReadyError(self.reason)
        return self.residents.find(self._live)

    @property
    def reason(self) -> str:
        """Why none answers, in a sentence; empty if one does."""
        if self._live is not None:
            return self.residents.status(self._live).reason
        if not self._has_started:
            return f"The model {self.name} is being loaded."
        failure = self.residents.failure()
        return f"The model {self.name} was unloaded." if failure is None else str(failure)

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
        await self.follow()
        if self.problem:
            raise DeploymentError(self.problem)
        await self._complain()

    async def follow(self) -> None:
        """Brings memory in line with the folder; what fails is told in the log and by `known`."""
        async with self._changing:
            await self._look()
            await self._arrange()

    async def promote(self, number: int | None) -> None:
        """Makes a version live, loaded if need be, and keeps it so; None leaves it to the policy again.

        Raises:
            ConflictError: the settings pin another one.
            ModelError: the version is not there or not sound; the old one stays live.
        """
        if self.pinned is not None:
            raise ConflictError(
                f"CLASSIFIER_MODEL_VERSION pins {self.name} to version {self.pinned} while the service runs."
            )
        async with self._changing:
            await self._look()
            if number is not None:
                await self.residents.demand(number)
            await self._decide(live=number, unloaded=self.decisions.unloaded - {number}, serve=True)

    async def load(self, number: int) -> None:
        """Keeps a version in memory besides the live one.

        Raises:
            ModelError: it is not there or not sound.
        """
        async with self._changing:
            await self._look()
            await self.residents.demand(number)
            loaded, unloaded = self.decisions.loaded | {number}, self.decisions.unloaded - {number}
            await self._decide(loaded=loaded, unloaded=unloaded, serve=True)

    async def unload(self, number: int) -> None:
        """Takes a version out of memory, if it is there, when its last request is answered.

        Raises:
            ConflictError: it is the live one, or a label points to it.
            VersionNotFoundError: there is no such version.
        """
        async with self._changing:
            await self._look()
            self._check_unused(number)
            kept = frozenset({number} & set(self._policy.kept(self._published)))
            loaded, unloaded = self.decisions.loaded - {number}, self.decisions.unloaded | kept
            await self._decide(loaded=loaded, unloaded=unloaded)

    async def set_label(self, label: str, number: int) -> None:
        """Points a label to a version that is ready.

        Raises:
            ConflictError: it is not ready.
        """
        async with self._changing:
            await self._look()
            state = self.residents.status(number).state
            if state is not State.READY:
                raise ConflictError(
                    f"A label points only to what is ready, and {self.name} version {number} is {state}. "
                    f"Load it first: POST /models/{self.name}/versions/{number}/load"
                )
            await self._decide(labels={**self.decisions.labels, label: number})

    async def remove_label(self, label: str) -> None:
        """Forgets a label.

        Raises:
            LabelNotFoundError: there is none of this name.
        """
        async with self._changing:
            await self._look()
            if label not in self.decisions.labels:
                raise LabelNotFoundError(f"{self.name} has no label {label!r}.")
            labels = {name: number for name, number in self.decisions.labels.items() if name != label}
            await self._decide(labels=labels)

    async def serve(self, wanted: bool) -> None:
        """Takes the whole model into memory, trying again what has failed, or out of it.

        Raises:
            ModelError: no version of it can answer.
        """
        async with self._changing:
            await self._look()
            self.residents.forget()
            await self._decide(serve=wanted)
        await self._complain()

    async def close(self) -> None:
        """Closes every version when its last request is answered."""
        self._live, self._labels = None, {}
        await self.residents.close()

    async def _look(self) -> None:
        try:
            file_seen, published, changed = await asyncio.to_thread(self._read)
        except OSError as error:
            raise DeploymentError(f"Cannot read {self._file.parent}: {error.strerror}.") from error
        # A folder that is suddenly empty is one that is not mounted: no reason to give up what is in memory.
        self._published = published or self._published
        self.residents.forget(changed)
        if file_seen == self._file_seen:
            return
        self._file_seen = file_seen
        try:
            self.decisions = await asyncio.to_thread(deployment.read, self._file)
            self.problem, self.persisted = "", True
        except DeploymentError as error:
            self.problem = str(error)
            _LOG.error("%s What was decided before holds until it is put right.", error)

    def _read(self) -> tuple[Fingerprint, list[int], list[int]]:
        published = self._repository.versions(self.name)
        return repository.fingerprint(self._file), published, self.residents.changed()

    async def _decide(self, **decisions: object) -> None:
        """Writes the decisions down and carries them out."""
        decided = self.decisions.changed(**decisions)
        if decided != self.decisions or self.problem:
            self.decisions = decided
            try:
                await asyncio.to_thread(deployment.write, self._file, decided)
                self.problem, self.persisted = "", True
            except DeploymentError as error:
                self.persisted = False
                _LOG.warning("%s The decision holds in this process, until it ends.", error)
        await self._arrange()

    async def _arrange(self) -> None:
        """Loads what is wanted, makes the right one live in one step, and closes what is not wanted."""
        if self.decisions.serve:
            await self._choose_live()
            for number in self._wanted():
                await self.residents.ensure(number)
            self._point_labels()
            kept = {self._live, *self._labels.values(), *self._wanted()}
        else:
            self._live, self._labels, kept = None, {}, set()
        self._has_started = True
        self.residents.retire(self.residents.ready.keys() - kept)

    async def _choose_live(self) -> None:
        """The first candidate that is sound; if none is, whatever answers now."""
        for number in self._candidates():
            if await self.residents.ensure(number):
                if number != self._live:
                    _LOG.info("%s version %d is live.", self.name, number)
                self._live = number
                return

    def _candidates(self) -> list[int]:
        chosen = self.pinned or self.decisions.live
        return self._policy.candidates(self._published) if chosen is None else [chosen]

    def _wanted(self) -> list[int]:
        """Versions to have besides the live one, the newest first."""
        kept = set(self._policy.kept(self._published)) - self.decisions.unloaded
        return sorted(kept | self.decisions.loaded | {*self.decisions.labels.values()}, reverse=True)

    def _point_labels(self) -> None:
        """A label whose new version does not load keeps its old one, if that is still there."""
        ready = self.residents.ready
        pointing = {
            name: number if number in ready else self._labels.get(name)
            for name, number in self.decisions.labels.items()
        }
        self._labels = {name: number for name, number in pointing.items() if number in ready and number}

    def _check_unused(self, number: int) -> None:
        if number not in self.known():
            raise VersionNotFoundError(f"{self.name} has no version {number}.")
        if number == self._live:
            raise ConflictError(f"{self.name} version {number} is live; make another one live first.")
        if labels := [name for name, labelled in self.decisions.labels.items() if labelled == number]:
            raise ConflictError(
                f"The label {labels[0]} points to {self.name} version {number}; move or delete it first."
            )

    async def _complain(self) -> None:
        """Raises what keeps the model from answering, if it should."""
        if not self.decisions.serve or self._live is not None:
            return
        error: ServiceError | None = self.residents.failure()
        if error is None:
            await asyncio.to_thread(self._repository.open, self.name)
            error = ModelNotFoundError(f"No version of {self.name} may answer.")
        raise error
