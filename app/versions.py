"""One model: which of its versions answers, what its labels point to, and who decides that.

Three may decide: the policy and the pinned version of the settings, the file in the model's folder, and calls
of the API. The calls write the file, so a restart and other processes follow them; where it cannot be written
they hold in this process alone.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
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
from app.pursuit import Pursuit
from app.repository import Fingerprint
from app.residents import Residents, Status

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Demand:
    """A version that a call waits for before it decides about it, be it to answer what names none."""

    number: int
    to_answer: bool


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
        self._demands: list[Demand] = []
        self._changing = asyncio.Lock()
        self._pursuit = Pursuit(self.residents, self._arrange)

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
            pass
        await self.settled()
        try:
            await self.complain()
        except ServiceError as error:
            self.residents.tell(but=error)
            if isinstance(error, VersionNotFoundError):
                raise VersionNotFoundError(f"{error} {self._asked_for()}") from error
            raise
        self.residents.tell()

    async def look(self) -> None:
        """Notices what has changed in the folder and begins to follow it; what has failed is told."""
        async with self.changing():
            pass
        self.residents.tell()

    async def follow(self) -> None:
        """The same, and waits until memory is in line with the folder."""
        await self.look()
        await self.settled()
        self.residents.tell()

    async def settled(self) -> None:
        """Waits until nothing is being loaded, and nothing is about to be decided."""
        await self._pursuit.until(lambda: self._pursuit.is_over and not self._demands)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """For one change at a time, made on what the folder holds now; no load is waited for here."""
        async with self._changing:
            await self._look()
            self._pursuit.turn()
            yield

    @asynccontextmanager
    async def demanded(self, number: int, *, to_answer: bool = False) -> AsyncIterator[None]:
        """Has a version in memory, loaded even if it has failed before, and then is `changing`.

        One that is `to_answer` is loaded before all others, and calls off others of its kind: an older wish
        must not undo what was decided after it, when its version is loaded at last.

        Raises:
            ModelError: it is not sound.
            ConflictError: something else was decided meanwhile.
            NotReadyError: the service is shutting down.
        """
        demand = Demand(number, to_answer)
        self._demands.append(demand)
        self.residents.forget(self.residents.failed & {number})
        self.call_off(lambda other: to_answer and other.to_answer and other.number != number)
        try:
            await self._pursuit.until(
                lambda: demand not in self._demands or self.residents.is_settled(number)
            )
            async with self.changing():
                if demand not in self._demands:
                    raise ConflictError(
                        f"Something else was decided about {self.name} before version {number} was loaded. "
                        "If that is not to stay, ask again."
                    )
                self.residents.complain(number)
                yield
        finally:
            self.call_off(lambda other: other is demand)

    async def decide(self, change: Callable[[Deployment], Deployment]) -> None:
        """Writes down what a change makes of the decisions, and begins to follow it; only while `changing`.

        Raises:
            ConflictError: it cannot be written, so the other workers would not follow.
        """
        # In one go, which goes on to its end though nobody may wait for it any more: it holds a lock.
        await asyncio.to_thread(self._write_down, change)
        self._pursuit.turn()

    def call_off(self, is_meant: Callable[[Demand], bool]) -> None:
        """Ends what calls wait for, and begins to follow what is left."""
        self._demands = [demand for demand in self._demands if not is_meant(demand)]
        self._pursuit.turn()

    def kept_by_policy(self) -> set[int]:
        """Versions that the settings keep in memory besides the live one."""
        return set(self._policy.kept(self._published))

    async def close(self) -> None:
        """Closes every version when its last request is answered."""
        self._live, self._labels = None, {}
        self._pursuit.end()
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
            decided = await asyncio.to_thread(deployment.read, self._file)
        except DeploymentError as error:
            self.problem = str(error)
            if self._has_started:
                _LOG.error("%s What was decided before holds until it is put right.", error)
            return
        is_other = decided.live != self.decisions.live
        self.decisions, self.problem, self.persisted = decided, "", True
        self.call_off(
            lambda demand: (
                not decided.serve or (is_other and demand.to_answer and demand.number != decided.live)
            )
        )

    def _write_down(self, change: Callable[[Deployment], Deployment]) -> None:
        """Another process may have decided something since the last look.

        Raises:
            ConflictError: it cannot be written, so the other workers would not follow.
        """
        with deployment.locked(self._file.parent):
            before = self._decided_by_now()
            decided = change(before)
            try:
                if decided != before or self.problem:
                    deployment.write(self._file, decided)
                    self.problem, self.persisted = "", True
            except DeploymentError as error:
                if self._workers > 1:
                    raise ConflictError(
                        f"{error} One of {self._workers} workers alone would follow this call: let the "
                        "service write there, or change the file where it comes from."
                    ) from error
                self.persisted = False
                _LOG.warning("%s The decision holds in this process, until it ends.", error)
            self.decisions = decided

    def _decided_by_now(self) -> Deployment:
        with suppress(OSError, DeploymentError):
            there = self._repository.versions(self.name)  # or else the folder is suddenly gone
            if there and repository.fingerprint(self._file) != self._file_seen:
                return deployment.read(self._file)
        return self.decisions

    def _read(self) -> tuple[Fingerprint, list[int], list[int]]:
        published = self._repository.versions(self.name)
        return repository.fingerprint(self._file), published, self.residents.changed()

    def _arrange(self) -> list[int]:
        """Makes the right version live in one step, and closes what is not wanted; what is to be loaded."""
        if self.decisions.serve:
            self._choose_live()
            self._point_labels()
            wanted = [*self._wanted(), *self._labels.values()]
            sought, kept = [*self._sought(), *wanted], {self._live, *wanted}
        else:
            self._live, self._labels, sought, kept = None, {}, [], set()
        demanded = [demand.number for demand in self._demands]
        kept |= {*demanded}
        self.residents.retire(self.residents.ready.keys() - kept)
        # What nobody asks for any more, and is not there either, was a number mistyped.
        self.residents.forget(self.residents.failed - kept - {*self._candidates(), *self._published})
        missing = [each for each in (*sought, *demanded) if not self.residents.is_settled(each)]
        self._has_started = self._has_started or not missing
        return missing

    def _choose_live(self) -> None:
        """The first candidate that is sound; until that is known, and if none is, whatever answers now."""
        for number in self._candidates():
            if self.residents.is_ready(number):
                if number != self._live:
                    _LOG.info("%s version %d is live.", self.name, number)
                self._live = number
                return
            if number not in self.residents.failed:
                return

    def _sought(self) -> list[int]:
        """Versions to try, one after another, until one is ready that may answer."""
        promoted = [demand.number for demand in self._demands if demand.to_answer]
        candidates = [*promoted, *self._candidates()]  # the first is about to be the only one
        for place, number in enumerate(candidates, start=1):
            if self.residents.is_ready(number):
                return candidates[:place]
        return candidates if self._live is None else [*candidates, self._live]

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

    def _point_labels(self) -> None:
        """A label keeps its old version until the new one is ready, and as long as that is not lost."""
        pointing = dict[str, int]()
        for name, number in self.decisions.labels.items():
            old = self._labels.get(name)
            if self.residents.is_ready(number):
                pointing[name] = number
            elif old is not None and (old in self.residents.ready or old not in self.residents.failed):
                pointing[name] = old
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
