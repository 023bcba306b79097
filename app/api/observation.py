"""How far a request came, whatever way in it took: counted and logged where all of them meet."""

import logging
import re
from time import perf_counter
from typing import Final

from starlette.types import Scope

from app import logs
from app.metrics import Metrics

_LOG: Final = logging.getLogger("app.requests")
_SHOWN: Final = 200
_GOOD: Final = (200, 304)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER: Final = "other"
_CONVERTOR: Final = re.compile(r":\w+(?=\})")
# In the state of a request that the server answered itself; the application may have begun with it.
RECORDED: Final = "is_recorded"


class Observed:
    """How far a request came; without an answer the status stays 500."""

    def __init__(self) -> None:
        self.began = self.read_at = perf_counter()
        self.body_bytes = 0
        self.status = 500
        self.code = ""
        self.overload = ""  # what there was too much of, if there was

    def read(self, size_bytes: int) -> None:
        """So much more of the body has arrived."""
        self.body_bytes += size_bytes
        self.read_at = perf_counter()

    def count(self, metrics: Metrics, route: str, method: str, *, classifies: bool) -> None:
        """`route` and `method` come from a short list; time and size are of requests that `classifies`."""
        metrics.answered(route, method, self.status)
        if self.code:
            metrics.refused(self.code)
        if self.overload:
            metrics.overloaded(self.overload)
        if classifies and self.status == 200:
            metrics.took("read", self.read_at - self.began)
            metrics.took("total", perf_counter() - self.began)
            metrics.received(self.body_bytes)

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
            "reason": self.overload,
            "client": client,
            "request_id": request_id,
        }
        logs.log(_LOG, level, "request", {name: value for name, value in fields.items() if value != ""})

    def record(
        self, scope: Scope, name: str, way_in: str | None, metrics: Metrics | None, *, quiet: bool = False
    ) -> None:
        """Counts and logs a request of HTTP; `way_in` is the template of a route that classifies.

        Its path is shown as it came, percent-encoded, without the query: that may hold secrets.
        """
        method = scope.get("method", "")
        if metrics is not None:
            label = method if method in _METHODS else _OTHER
            self.count(metrics, way_in or _template(scope), label, classifies=way_in is not None)
        self.log(method, shown_path(scope), (scope.get("client") or ("",))[0], name, quiet=quiet)


def _template(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    return _CONVERTOR.sub("", path) if path else _OTHER


def shown_path(scope: Scope) -> str:
    path: str = scope.get("raw_path", b"").decode("ascii", "backslashreplace")
    return path
