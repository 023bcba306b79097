"""Counts every request where all of them meet: by route, method, status, code of the error, and time."""

import re
from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import ways_in
from app.metrics import Metrics

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER: Final = "other"
_CONVERTOR: Final = re.compile(r":\w+(?=\})")


class Observation:
    """Stands outside of all that may refuse a request, and inside of what changes its path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._count(scope, exchange)

    def _count(self, scope: Scope, exchange: "_Exchange") -> None:
        way_in = ways_in.template(scope)
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        self._metrics.requests.labels(way_in or _template(scope), method, str(exchange.status)).inc()
        if code := scope.get("state", {}).get("problem_code"):
            self._metrics.refusals.labels(code).inc()
        if way_in and exchange.status == 200:
            self._metrics.took("read", exchange.read_at - exchange.began)
            self._metrics.took("total", perf_counter() - exchange.began)
            self._metrics.body_bytes.observe(exchange.body_bytes)


class _Exchange:
    """What passes between one client and the application; without an answer the status is 500."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.began = self.read_at = perf_counter()
        self.body_bytes = 0
        self.status = 500

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.body_bytes += len(message.get("body", b""))
            self.read_at = perf_counter()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _template(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    return _CONVERTOR.sub("", path) if path else _OTHER
