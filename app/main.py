"""The application: `create_app` for whoever has settings, `app` for ASGI servers that want a name.

`app` is made when it is first asked for, so importing this module reads no settings and loads no model.
"""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app import __version__
from app.api import (
    batch,
    cards,
    compare,
    docs,
    explain,
    feedback,
    health,
    management,
    metrics,
    models,
    oip_routes,
    predict,
    problems,
    tfserving_routes,
    web,
)
from app.api.admission import Admission, Gate
from app.api.door import Door
from app.api.front import Front
from app.api.limits import BodyLimits
from app.api.request_id import Names
from app.api.shortcut import Shortcut
from app.decoding import Decoder
from app.errors import CANNOT_GO_ON, CANNOT_START, EngineError, ServiceError, SettingsError
from app.explanation import Explainer
from app.feedback import Feedback
from app.loading import Choose
from app.metrics import Metrics
from app.serving import Serving
from app.settings import PREFIX, Settings
from app.shadow import Shadow

_TELL_EVERY_S: Final = 1.0
_LOG: Final = logging.getLogger(__name__)


class Service(FastAPI):
    """What is served: the framework, with `Front` before its own layers, and a `Door` for our server."""

    front: Front
    door: Door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await self.front(scope, receive, send)


def create_app(
    settings: Settings | None = None,
    choose: Choose | None = None,
    *,
    begun: Serving | None = None,
    waits_for_model: bool = False,
) -> Service:
    """The service, with settings from the environment unless they are given.

    `begun` is what loads the model, if that is under way already; else `choose` chooses the engine.
    When the model cannot be loaded, the process ends with `CANNOT_START` and a sentence in the log. Where
    others answer meanwhile, it `waits_for_model` before it takes its first connection.

    Raises:
        SettingsError: the environment holds something that cannot be used.
    """
    settings = settings or Settings.load()
    app = Service(
        title="Image classification",
        description="Send a picture, get the probability of every class.",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.choose = choose
    app.state.begun = begun
    app.state.waits_for_model = waits_for_model
    app.state.metrics = Metrics() if begun is None else begun.metrics
    app.state.gate = Gate(settings, app.state.metrics)
    native = (predict, batch, explain, feedback, models, cards, compare, health, metrics, docs)
    for router in (module.router for module in native):
        app.include_router(router)
    app.include_router(tfserving_routes.router)
    app.include_router(oip_routes.router)
    app.include_router(oip_routes.repository, include_in_schema=settings.admin_key is not None)
    app.include_router(web.router)
    if settings.admin_key is not None:
        app.include_router(management.router)
    problems.install(app)
    _guard(app, settings)
    return app


def _guard(app: Service, settings: Settings) -> None:
    limits = BodyLimits(
        settings.max_body_bytes,
        exceptions={
            batch.PATH: settings.max_upload_bytes,
            feedback.PATH: feedback.MAX_BYTES,
            oip_routes.REPOSITORY: oip_routes.REPOSITORY_MAX_BYTES,
        },
    )
    framework = partial(FastAPI.__call__, app)
    shortcut = Shortcut(framework, path=predict.PATH, handler=predict.predict)
    admission, names = Admission(settings, app.state.gate), Names()
    app.front = Front(shortcut, app, admission, limits, names)
    app.door = Door(app, admission, names)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    serving = app.state.begun or Serving(settings, app.state.choose, app.state.metrics)
    app.state.serving = serving
    decoder = app.state.decoder = Decoder.configured(settings, app.state.metrics)
    app.state.explainer = Explainer(decoder, settings.queue_explanations)
    metrics.watch(app.state.metrics, serving, decoder)
    opinions = app.state.feedback = Feedback.configured(settings, app.state.metrics)
    app.state.metrics.watch_feedback(partial(feedback.gauges, opinions))
    shadow = app.state.shadow = Shadow.configured(settings, serving, app.state.metrics)
    app.state.grpc = None
    starting = asyncio.create_task(_start(app))
    beside = [
        asyncio.create_task(_tend(serving)),
        asyncio.create_task(_tell_others(app.state.metrics)),
    ]
    if app.state.waits_for_model:
        await asyncio.wait([starting])
    try:
        yield
    except asyncio.CancelledError:
        pass  # the loop is being torn down: end in order, without an exception for the server to print
    finally:
        for task in (starting, *beside):
            await _end(task)
        await stop_grpc(app)
        decoder.close()
        await shadow.close()
        await serving.close()
        await asyncio.to_thread(opinions.close)


async def _end(task: asyncio.Task[None]) -> None:
    """Whatever became of a task, what follows it is still to be cleaned up."""
    task.cancel()
    try:
        with suppress(asyncio.CancelledError, SystemExit):
            await task
    except Exception as error:  # noqa: BLE001
        _LOG.error("A task beside the requests had failed: %r", error, exc_info=error)


async def stop_grpc(app: FastAPI) -> None:
    """Takes no more calls, and waits for those that there are, if there is a port for gRPC."""
    if app.state.grpc is not None:
        await app.state.grpc.stop(app.state.settings.shutdown_timeout_s)


async def _start(app: FastAPI) -> None:
    """Loads the model while the probes answer already; without a model there is nothing to stay for."""
    try:
        await asyncio.to_thread(app.state.feedback.start)
        if not app.state.waits_for_model:
            await _open_grpc(app)
        app.state.serving.watch()
        await app.state.serving.start()
        await _open_grpc(app)
    except ServiceError as error:
        _LOG.critical("%s", error)
        _LOG.debug("This is where it came from:", exc_info=error)
        raise SystemExit(CANNOT_START) from error
    except Exception as error:
        _LOG.critical("The start failed: %r", error, exc_info=error)
        raise SystemExit(CANNOT_START) from error


async def _open_grpc(app: FastAPI) -> None:
    """Unless there is to be no such port, or it is open already."""
    if app.state.grpc is not None or not app.state.settings.grpc_port:
        return
    # Its core would write to standard error, past the log, whatever a client makes it say.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from app.api import grpc_call, grpc_server, oip_grpc
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{PREFIX}GRPC_PORT is set, but the package {error.name} is not installed. Install "
            "'image-classification-service[grpc]', or set it to 0."
        ) from error
    state = app.state
    service = oip_grpc.InferenceService(state.serving, state.decoder, state.settings, state.gate)
    state.grpc = await grpc_server.start(service, grpc_call.Calls(state.settings, state.metrics, state.gate))


async def _tend(serving: Serving) -> None:
    """A process whose model is lost is no use to anybody: whoever started it shall know."""
    try:
        await serving.tend()
    except EngineError as error:
        _LOG.critical("%s", error)
        raise SystemExit(CANNOT_GO_ON) from error
    except Exception as error:
        # Nobody would notice any more that an engine stops or hangs.
        _LOG.critical("What looks after the engines has failed.", exc_info=error)
        raise SystemExit(CANNOT_GO_ON) from error


async def _tell_others(figures: Metrics) -> None:
    is_told = False
    while True:
        try:
            if not figures.tell_others():
                return
            is_told = False
        except OSError as error:  # there is no room for them; there may be again
            if not is_told:
                _LOG.error("The figures of this worker cannot be written: %s.", error.strerror)
            is_told = True
        await asyncio.sleep(_TELL_EVERY_S)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        globals()[name] = create_app()
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(CANNOT_START)
    return globals()[name]
