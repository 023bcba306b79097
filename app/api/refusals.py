"""What the server refuses by itself, most of it before it is a request: named, counted and logged."""

from starlette.types import Scope

from app.api import problems, request_id, ways_in
from app.api.observation import RECORDED, Observed
from app.errors import ServiceError
from app.metrics import Metrics


class Refusals:
    """Of one service; without `metrics` they are only logged."""

    def __init__(self, metrics: Metrics | None) -> None:
        self._metrics = metrics
        self._names = request_id.Names()

    def refuse(self, error: ServiceError, scope: Scope, waited_s: float) -> tuple[int, bytes]:
        """The status of the answer, and what stands behind its status line; the connection ends with it.

        Of what ASGI wants of a `scope`, that which has not arrived may be missing. The application may have
        begun with the request; then it finds that this one has been counted and logged.
        """
        state = scope["state"]
        name = state.get("request_id") or self._names.of(request_id.given(scope))
        status, body = problems.bare(error, name)
        state[RECORDED] = True
        seen = Observed()
        seen.began -= waited_s
        seen.status, seen.code = status, error.code
        seen.record(scope, name, _way_in(scope), self._metrics)
        head = b"content-type: %b\r\ncontent-length: %d\r\n%b: %b\r\nconnection: close\r\n\r\n"
        kind = problems.MEDIA_TYPE.encode()
        return status, head % (kind, len(body), request_id.NAME, name.encode()) + body


def _way_in(scope: Scope) -> str | None:
    """Of a request whose headers have all arrived; part of an address may look like another one."""
    return ways_in.template(ways_in.folded(scope)) if "path" in scope else None
