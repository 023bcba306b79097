"""Counts and logs every request where all of them meet: what was asked, how it ended, how long it took."""

import logging
import re
from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import ways_in
from app.logs import FIELDS
from app.metrics import Metrics

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER: Final = "other"
_FAULT: Final = "internal_error"
_LOG: Final = logging.getLogger("app.requests")
_SHOWN: Final = 200
# Asked for every few seconds, these would drown the rest.
_QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})
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
            _log(scope, exchange)

    def _count(self, scope: Scope, exchange: "_Exchange") -> None:
        way_in = ways_in.template(scope)
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        self._metrics.requests.labels(way_in or _template(scope), method, str(exchange.status)).inc()
        if code := _problem_code(scope, exchange):
            self._metrics.refusals.labels(code).inc()
        if way_in and exchange.status == 200:
            self._metrics.took("read", exchange.read_at - exchange.began)
            self._metrics.took("total", perf_counter() - exchange.began)
            self._metrics.body_bytes.observe(exchange.body_bytes)


class _Exchange:
    """What passes between one client and the application; without an answer the status stays 500."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.began = self.read_at = perf_counter()
        self.body_bytes = 0
        self.status = 500
        self.is_answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.body_bytes += len(message.get("body", b""))
            self.read_at = perf_counter()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.is_answered = message["status"], True
        await self._send(message)


def _problem_code(scope: Scope, exchange: _Exchange) -> str:
    """Empty if there was no problem. Faults of ours are answered outside of here, after this is asked."""
    code: str = scope.get("state", {}).get("problem_code", "")
    return code if code or exchange.is_answered else _FAULT


def _log(scope: Scope, exchange: _Exchange) -> None:
    """The path as it came, percent-encoded, without the query: that may hold what is not for logs."""
    level = logging.DEBUG if scope["path"] in _QUIET and exchange.status == 200 else logging.INFO
    if not _LOG.isEnabledFor(level):
        return
    path = scope.get("raw_path", b"").decode("ascii", "backslashreplace")[:_SHOWN]
    fields = {
        "method": scope["method"][:_SHOWN],
        "path": path,
        "status": exchange.status,
        "ms": round(1000 * (perf_counter() - exchange.began), 2),
        "body_bytes": exchange.body_bytes,
        "code": _problem_code(scope, exchange),
        "client": (scope.get("client") or ("",))[0],
        "request_id": scope.get("state", {}).get("request_id", ""),
    }
    _LOG.log(level, "request", extra={FIELDS: {name: value for name, value in fields.items() if value != ""}})


def _template(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    return _CONVERTOR.sub("", path) if path else _OTHER
