"""Models in memory: all that are served, which one is meant, and the watch over their folders."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Final

from app import engines
from app.deployment import Policy
from app.errors import EngineError, ModelNotFoundError, NotReadyError, ServiceError
from app.loading import Choose, Loader
from app.metrics import Metrics
from app.model import Model, State
from app.revival import Revivals
from app.settings import ALL_MODELS, Settings
from app.stall import StallWatch
from app.versions import Versions

CLOSE_TIMEOUT_S: Final = 5.0
# Of the time after which an engine counts as hung: others should get its requests before it is given up.
_SUSPECT_AFTER: Final = 1 / 3
_TEND_EVERY_S: Final = 0.5
_LOG: Final = logging.getLogger(__name__)


class Serving:
    """Belongs to one event loop; models are loaded in a thread, so the loop answers meanwhile.

    The model of the setting `model_name` is the default one: it answers what names no model, and without it
    the service is not ready. The others come and go beside it.
    """

    def __init__(
        self, settings: Settings, choose: Choose | None = None, metrics: Metrics | None = None
    ) -> None:
        choose = choose or partial(engines.choose, streams=settings.engine_streams)
        self._settings = settings
        self.metrics: Final = metrics or Metrics()
        self._loader = Loader(settings, choose, self.metrics)
        self._policy = Policy.parse(settings.version_policy)
        pinned = None if settings.model_version == "latest" else settings.model_version
        self._default = Versions(
            settings.model_name,
            self._loader,
            self._policy,
            pinned,
            settings.shadow_version,
            settings.workers,
        )
        self._models = {settings.model_name: self._default}
        self._state = State.LOADING
        self._reason = f"The model {settings.model_name} is being loaded."
        self._suspects: list[Model] = []  # whose engines may hang
        self._starting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        if self._state is State.READY and not self._answers:
            return State.FAILED
        return self._state

    @property
    def is_draining(self) -> bool:
        """Whether it was told to stop."""
        return self._state is State.DRAINING

    @property
    def reason(self) -> str:
        """Why the service is not ready, in a sentence; empty when it is."""
        if self._state is not State.READY:
            return self._reason
        try:
            self._unsuspected(self._default.live)
        except NotReadyError as error:
            return str(error)
        return ""

    @property
    def live(self) -> Model:
        """The version of the default model that answers now.

        Raises:
            NotReadyError: there is none yet, or its engine has stopped or seems to hang.
        """
        try:
            return self._unsuspected(self._default.live)
        except NotReadyError as error:
            raise NotReadyError(self.reason or str(error)) from error

    @property
    def models(self) -> Mapping[str, Versions]:
        """By name, the default one first."""
        return self._models

    @property
    def answering(self) -> list[Model]:
        """Every version that can be asked now, of whatever model.

        Raises:
            NotReadyError: there is none.
        """
        answering = [model for model in self._in_memory() if model.alive and model not in self._suspects]
        return answering or [self.live]

    def find(self, name: str, number: int | None = None, label: str | None = None) -> Model:
        """The version of a model with this number or label, its live one if neither is given.

        Raises:
            NotReadyError: it is being loaded or closed, has failed, or its engine seems to hang.
            ModelNotFoundError, VersionNotFoundError, LabelNotFoundError: it is not in memory.
        """
        if name == self._default.name and number is None and label is None:
            return self.live
        return self._unsuspected(self.versions(name).find(number, label))

    def versions(self, name: str) -> Versions:
        """Every version of one model.

        Raises:
            ModelNotFoundError: it is not served.
        """
        if name not in self._models:
            there = ", ".join(self._models)
            raise ModelNotFoundError(f"There is no model {name[:100]!r} here; there is: {there}.")
        return self._models[name]

    def begin(self) -> asyncio.Task[None]:
        """Begins what `start` waits for, unless it has begun."""
        self._starting = self._starting or asyncio.create_task(self._start())
        return self._starting

    async def start(self) -> None:
        """Loads what the settings ask for, the default model first. Others may fail: it is told, no more.

        Raises:
            ModelError: no version of the default model can answer.
        """
        await self.begin()

    async def _start(self) -> None:
        try:
            await self._default.start()
        except ServiceError as error:
            if self._state is State.LOADING:
                self._state, self._reason = State.FAILED, str(error)
            raise
        await self._find_others()
        for versions in list(self._models.values())[1:]:
            self._reason = f"The model {versions.name} is being loaded."
            try:
                await versions.start()
            except ServiceError as error:
                _LOG.error("%s", error)
        if self._state is State.LOADING:
            self._state, self._reason = State.READY, ""

    def watch(self) -> None:
        """Looks at the folders every now and then from here on, and follows what changes there.

        As long as the start lasts, only that of the default model: what it loads shall be first.
        """
        if self._settings.model_poll_s:
            self._watching = asyncio.create_task(self._watch(self._settings.model_poll_s))

    async def look(self) -> None:
        """Looks at the folders once, and waits for no load. Nothing that is wrong there ends this."""
        if self._state is State.LOADING:
            await self._look_at(self._default)
            return
        await self._find_others()
        for versions in list(self._models.values()):
            await self._look_at(versions)

    async def follow(self) -> None:
        """The same, and waits until memory is in line with the folders."""
        await self.look()
        for versions in list(self._models.values()):
            await versions.settled()
            versions.residents.tell()

    async def tend(self) -> None:
        """Starts engines again that stop, for ever.

        Raises:
            EngineError: that of the default model cannot be started again, or any hangs.
        """
        revivals = Revivals()
        stalls, limit_s = StallWatch(_TEND_EVERY_S), self._settings.engine_stall_s
        while True:
            await asyncio.sleep(_TEND_EVERY_S)
            stalls.look(self._in_memory())
            self._suspect(stalls.stalled(_SUSPECT_AFTER * limit_s))
            for hanging in stalls.stalled(limit_s):
                hanging.give_up()
                await asyncio.sleep(_TEND_EVERY_S)  # in which those who waited get their answers
                raise EngineError(
                    f"The engine of {hanging.version} has been at the same batch for {limit_s:g} s "
                    "(CLASSIFIER_ENGINE_STALL_S); a thread that hangs cannot be ended, so the process ends, "
                    "to be started again."
                )
            revivals.look(self._models.values())
            if self._default.is_lost:
                raise EngineError(f"{self._default.name} cannot answer any more: {self._default.reason}")

    async def adopt(self, name: str) -> Versions:
        """A model that is served, or from now on may be, since it is published.

        Raises:
            ModelNotFoundError: it is not.
        """
        if name not in self._models:
            if name not in await asyncio.to_thread(self._loader.repository.names):
                raise ModelNotFoundError(f"No model {name[:100]!r} is published here.")
            self._add(name)
        return self._models[name]

    def is_default(self, versions: Versions) -> bool:
        return versions is self._default

    def drain(self) -> None:
        """Says not ready from now on, but goes on answering."""
        self._state, self._reason = State.DRAINING, "The service is shutting down; send requests elsewhere."

    async def close(self) -> None:
        """Gives every engine back; what hangs must not keep the process from its end, and is left behind."""
        self.drain()
        begun = [task for task in (self._starting, self._watching) if task is not None]
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)  # whoever waits for the start was told
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                # In this order: what has been given up must not begin to load something else.
                await asyncio.gather(
                    *(versions.close() for versions in self._models.values()), self._loader.close()
                )

    def _in_memory(self) -> Iterator[Model]:
        return chain.from_iterable(versions.residents.ready.values() for versions in self._models.values())

    @property
    def _answers(self) -> bool:
        try:
            self._unsuspected(self._default.live)
        except NotReadyError:
            return False
        return True

    def _unsuspected(self, model: Model) -> Model:
        if model in self._suspects:  # nearly always empty
            raise NotReadyError(f"The engine of {model.version} seems to hang at a batch.")
        return model

    def _suspect(self, models: list[Model]) -> None:
        for model in models:
            if model not in self._suspects:
                _LOG.warning("The engine of %s seems to hang at a batch.", model.version)
        self._suspects = models

    async def _watch(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self.look()

    async def _look_at(self, versions: Versions) -> None:
        try:
            await versions.look()
        except Exception as error:  # noqa: BLE001
            # A file system may do anything; the next look may find it well again.
            _LOG.error("Cannot follow the versions of %s: %s", versions.name, error)

    async def _find_others(self) -> None:
        """Models that the settings name; with all, those that have been published meanwhile too."""
        named = (self._settings.models or "").split(",")
        if named == [ALL_MODELS]:
            try:
                named = await asyncio.to_thread(self._loader.repository.names)
            except OSError as error:
                _LOG.error("Cannot look for models in %s: %s.", self._settings.model_root, error.strerror)
                return
        for name in filter(None, map(str.strip, named)):
            self._add(name)

    def _add(self, name: str) -> None:
        if name not in self._models:
            self._models[name] = Versions(name, self._loader, self._policy, workers=self._settings.workers)
