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
_GOOD: Final = (200, 304)
# Asked for every few seconds, or by the dozen for one page, these would drown the rest.
_QUIET: Final = re.compile(r"/livez|/readyz|/metrics|/web/.*")
_CONVERTOR: Final = re.compile(r":\w+(?=\})")


class Observed:
    """How far a request came; without an answer the status stays 500."""

    def __init__(self) -> None:
        self.began = self.read_at = perf_counter()
        self.body_bytes = 0
        self.status = 500
        self.code = ""

    def read(self, size_bytes: int) -> None:
        """So much more of the body has arrived."""
        self.body_bytes += size_bytes
        self.read_at = perf_counter()

    def count(self, metrics: Metrics, route: str, method: str, *, classifies: bool) -> None:
        """`route` and `method` come from a short list; time and size are of requests that `classifies`."""
        metrics.answered(route, method, self.status)
        if self.code:
            metrics.refusals.labels(self.code).inc()
        if classifies and self.status == 200:
            metrics.took("read", self.read_at - self.began)
            metrics.took("total", perf_counter() - self.began)
            metrics.body_bytes.observe(self.body_bytes)

    def log(self, method: str, path: str, client: str, request_id: str, *, quiet: bool) -> None:
        """One line, about a success only at the level debug if it is to be `quiet`."""
        level = logging.DEBUG if quiet and self.status in _GOOD else logging.INFO
        if not _LOG.isEnabledFor(level):
            return
        fields = {
            "method": method[:_SHOWN],
            "path": path[:_SHOWN],
            "status": self.status,
            "ms": round(1000 * (perf_counter() - self.began), 2),
            "body_bytes": self.body_bytes,
            "code": self.code,
            "client": client,
            "request_id": request_id,
        }
        _LOG.log(
            level, "request", extra={FIELDS: {name: value for name, value in fields.items() if value != ""}}
        )


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
            exchange.code = _problem_code(scope, exchange)
            self._record(scope, exchange)

    def _record(self, scope: Scope, exchange: Observed) -> None:
        """The log has the path as it came, percent-encoded, without the query: that may hold secrets."""
        way_in = ways_in.template(scope)
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        exchange.count(self._metrics, way_in or _template(scope), method, classifies=bool(way_in))
        exchange.log(
            scope["method"],
            scope.get("raw_path", b"").decode("ascii", "backslashreplace"),
            (scope.get("client") or ("",))[0],
            scope.get("state", {}).get("request_id", ""),
            quiet=bool(_QUIET.fullmatch(scope["path"])),
        )


class _Exchange(Observed):
    """What passes between one client and the application."""

    def __init__(self, receive: Receive, send: Send) -> None:
        super().__init__()
        self._receive = receive
        self._send = send
        self.is_answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.read(len(message.get("body", b"")))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.is_answered = message["status"], True
        await self._send(message)


def _problem_code(scope: Scope, exchange: _Exchange) -> str:
    """Empty if there was no problem. Faults of ours are answered outside of here, after this is asked."""
    code: str = scope.get("state", {}).get("problem_code", "")
    return code if code or exchange.is_answered else _FAULT


def _template(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    return _CONVERTOR.sub("", path) if path else _OTHER
