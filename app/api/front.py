"""What stands before every route, in the order in which a request passes it.

Each request gets a name, is refused before its body is read where it cannot be answered, is bounded while it
arrives, and is counted and logged when it has its answer. As layers of middleware around each other, their
calls took a small request longer than what they do.
"""

import asyncio
from typing import Final

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import problems, request_id, ways_in
from app.api.admission import Admission
from app.api.exchange import Exchange
from app.api.limits import BodyLimits, is_soon_read
from app.errors import NotReadyError, ServiceError

_STATE: Final = "state"
_OVER: Final = "The service has shut down before this request was done; send it elsewhere."


class Front:
    """Passes requests to `app`; `service` is whose state they belong to."""

    def __init__(
        self,
        app: ASGIApp,
        service: FastAPI,
        admission: Admission,
        limits: BodyLimits,
        names: request_id.Names,
    ) -> None:
        self._app = app
        self._service = service
        self._admission = admission
        self._limits = limits
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = ways_in.folded(scope)
        scope["app"] = self._service
        name = self._names.of(request_id.given(scope))
        scope.setdefault(_STATE, {})["request_id"] = name
        exchange = Exchange(
            scope, receive, send, name=name, most_bytes=self._limits.of(scope["path"]), is_last=self._is_last
        )
        way_in = ways_in.template(scope)
        try:
            await self._answer(exchange, way_in)
        except asyncio.CancelledError:
            if exchange.is_answered or not self._is_last():
                raise
            await self._refuse(exchange, NotReadyError(_OVER))
        except MemoryError as error:
            if exchange.is_answered:
                raise
            await self._refuse(exchange, problems.no_memory(error))
        except Exception:
            if not exchange.is_answered:
                fault = problems.response(problems.fault(), Request(scope))
                await fault(scope, exchange.receive, exchange.send)
            raise
        finally:
            exchange.end(way_in, self._service.state.metrics)

    async def _refuse(self, exchange: Exchange, error: ServiceError) -> None:
        await problems.response(error, Request(exchange.scope))(
            exchange.scope, exchange.receive, exchange.send
        )

    def _is_last(self) -> bool:
        return bool(self._service.state.serving.is_draining)

    async def _answer(self, exchange: Exchange, way_in: str | None) -> None:
        scope, receive, send = exchange.scope, exchange.receive, exchange.send
        gate = self._admission.gate
        with gate.receiving() as exchange.arrived:
            try:
                if way_in:
                    state = self._service.state
                    self._admission.check(scope, state.serving, state.decoder)
                self._limits.check_announced(scope)
                exchange.receive_whole()
            except ServiceError as error:
                exchange.closes = not is_soon_read(scope)
                await self._refuse(exchange, error)
                return
            if way_in:
                with gate.counted():
                    await self._app(scope, receive, send)
            else:
                await self._app(scope, receive, send)
