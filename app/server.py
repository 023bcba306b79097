"""One process that serves: uvicorn with our limits on connections, our way to stop and our log."""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from time import monotonic
from types import FrameType
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app import http_protocol, logs, memory, open_files
from app.api.front import Front
from app.main import Service, stop_grpc
from app.model import State
from app.settings import Settings

_FORWARDED: Final = b"x-forwarded-"
_LOG: Final = logging.getLogger(__name__)
HEARD_S: Final = 0.5  # after the last connection, for what was to come on it


def server_of(
    app: Service, settings: Settings, on_ready: Callable[[], object], on_turn: Callable[[], object]
) -> "DrainServer":
    """What serves `app`, once it is told the sockets; see `app.start.run`."""
    memory.give_back_large_pieces()
    logs.be_brief()
    most = open_files.room_for(settings.max_connections)
    settings = settings.model_copy(update={"max_connections": most})
    config = uvicorn.Config(
        _Forwarded(app.front),
        interface="asgi3",
        proxy_headers=False,
        log_config=None,  # whoever calls this has done that
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
        timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # a time for asyncio
        server_header=False,
        http=http_protocol.bounded(settings, app.door, app.state.metrics),
        ws="none",
        lifespan="on",
    )
    return DrainServer(config, app, settings.drain_s, on_ready, on_turn)


class _Forwarded:
    """Uvicorn's middleware for what proxies say of their clients, passed by where none says anything."""

    def __init__(self, app: Front) -> None:
        self._app: ASGIApp = app
        middleware: Any = ProxyHeadersMiddleware  # which has types of uvicorn's own
        self._behind_proxy: ASGIApp = middleware(app, trusted_hosts=_trusted_proxies())

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        headers = scope.get("headers", ())
        is_forwarded = any(name.startswith(_FORWARDED) for name, _ in headers)
        return (self._behind_proxy if is_forwarded else self._app)(scope, receive, send)


def _trusted_proxies() -> str:
    """As uvicorn itself has it."""
    return os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")


class DrainServer(uvicorn.Server):
    """Uvicorn closes its sockets as soon as it is told to stop; this waits `drain_s` before it is told."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: Service,
        drain_s: float,
        on_ready: Callable[[], object],
        on_turn: Callable[[], object],
    ) -> None:
        super().__init__(config)
        self._app = app
        self._drain_s = drain_s
        self._on_ready: Callable[[], object] | None = on_ready
        self._on_turn = on_turn
        self._stop_at: float | None = None
        self._untold: signal.Signals | None = None
        self._tide = memory.Tide()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See `uvicorn.Server`; not passing the signal on is what makes the exit code 0.

        Nothing is logged here: it may interrupt whoever is about to log, with a lock that it would wait for.
        """
        if self._stop_at is None:
            self._untold = signal.Signals(sig)
        if self._stop_at is not None or sig == signal.SIGINT:
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True
        self._stop_at = self._stop_at or monotonic() + self._drain_s
        serving = getattr(self._app.state, "serving", None)
        if serving is not None:
            serving.drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`; the port for gRPC closes at the same time."""
        await asyncio.gather(stop_grpc(self._app), self._shutdown(sockets))

    async def _shutdown(self, sockets: list[socket.socket] | None) -> None:
        """Uvicorn would close at once who has connected and not yet asked; their requests are on the way."""
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        hear_until = monotonic() + HEARD_S
        while any(map(_has_yet_to_ask, self.server_state.connections)) and monotonic() < hear_until:  # noqa: ASYNC110
            await asyncio.sleep(HEARD_S / 50)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """See `uvicorn.Server`; called ten times a second."""
        self._on_turn()
        if self._untold is not None:
            self._tell(self._untold)
            self._untold = None
        if self._stop_at is not None and monotonic() >= self._stop_at:
            self.should_exit = True
        if self._on_ready is not None and self._app.state.serving.state is State.READY:
            _spare_the_collector()
            self._on_ready()
            self._on_ready = None
        if self._tide.has_ebbed(self._app.state.gate.received_bytes):
            asyncio.get_running_loop().run_in_executor(None, memory.give_back_the_rest)
        return await super().on_tick(counter)

    def _tell(self, asked_by: signal.Signals) -> None:
        goes_on_s = 0.0 if self.should_exit else self._drain_s
        _LOG.info("Asked to stop by %s; goes on answering for %g s.", asked_by.name, goes_on_s)


def _has_yet_to_ask(connection: Any) -> bool:
    """Of `http_protocol`'s connections."""
    return bool(connection.has_yet_to_ask)


def _spare_the_collector() -> None:
    """What has been made up to now stays; looking through all of it again and again stops every request.

    On two busy cores that took 250 ms of every 2,000 requests or so (AMD Zen 3, 2026-11-24).
    """
    gc.collect()
    gc.freeze()
