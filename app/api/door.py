"""Refuses what a full service cannot take as soon as the server knows its headers, without a task for it.

`Front` would say the same, but at ten times the load that a service can bear it would do little else.
"""

import asyncio
from functools import lru_cache
from http import HTTPStatus
from math import ceil
from typing import Final, NamedTuple

from fastapi import FastAPI, Request
from starlette.types import Scope

from app.api import problems, request_id, ways_in
from app.api.admission import Admission
from app.api.deadline import NAME as DEADLINE
from app.api.headers import header
from app.api.limits import is_soon_read
from app.api.observation import Observed
from app.api.plain_request import Head
from app.errors import OverloadedError, ServiceError

_NAME: Final = "00000000000000000000000000000000"  # in place of the id of a request
_REMEMBERED: Final = 256  # ways in which requests begin


class Door:
    """Of one service, whose `Front` has the same `admission`."""

    def __init__(self, service: FastAPI, admission: Admission, names: request_id.Names) -> None:
        self._service = service
        self._admission = admission
        self._names = names

    def refusal(self, scope: Scope) -> bytes | None:
        """The answer without its status line, 503; None to whoever may come in, or needs another answer.

        A refusal has been counted and logged. Who comes in is counted until its task, which has to be made
        at once, has taken its first step.
        """
        asking = _Asking.of(scope) if self._may_refuse else None
        answer = self._refusal(asking, asking.scope) if asking else None
        if answer is None:
            self._let_in()
        return answer

    def refusal_of(self, head: Head, client: tuple[str, int] | None) -> bytes | None:
        """The same for a plain request from `client`, with what is known since the last one that began so."""
        answer = None
        if self._may_refuse:
            asking = _known(head)
            answer = self._refusal(asking, {**asking.scope, "client": client, "state": {}})
        if answer is None:
            self._let_in()
        return answer

    @property
    def _may_refuse(self) -> bool:
        return self._admission.gate.is_crowded and not self._service.state.serving.is_draining

    def _let_in(self) -> None:
        gate = self._admission.gate
        gate.let_in()
        # Tasks begin in the order in which they are made, and this comes behind that.
        asyncio.get_running_loop().call_soon(gate.has_come)

    def _refusal(self, asking: "_Asking", scope: Scope) -> bytes | None:
        if not asking.way_in:
            return None
        state, ahead = self._service.state, self._admission.gate.coming
        try:
            if asking.has_deadline:
                self._admission.check(Request({**scope, "app": self._service}), ahead)
            else:
                self._admission.check_room(state.serving, state.decoder, asking.reference, ahead)
        except OverloadedError as error:
            return self._refuse(error, asking, scope)
        except ServiceError:
            pass
        return None

    def _refuse(self, error: OverloadedError, asking: "_Asking", scope: Scope) -> bytes:
        seen, name = Observed(), self._names.of(asking.name)
        seen.status, seen.code = HTTPStatus.SERVICE_UNAVAILABLE, error.code
        seen.count(self._service.state.metrics, asking.way_in, scope["method"], classifies=True)
        seen.log_request(scope, name)
        return _named(error, scope["path"], name)


class _Asking(NamedTuple):
    """What decides about a request and does not change; `way_in` is empty if it is not refused here.

    That is what classifies nothing, and what has more of a body than is soon read over.
    """

    scope: Scope
    way_in: str
    reference: ways_in.Reference | None
    has_deadline: bool
    name: str

    @classmethod
    def of(cls, scope: Scope) -> "_Asking":
        scope = ways_in.folded(scope)
        return cls(
            scope=scope,
            way_in=(ways_in.template(scope) or "") if is_soon_read(scope) else "",
            reference=ways_in.reference(scope),
            has_deadline=header(scope, DEADLINE) is not None,
            name=request_id.given(scope),
        )


@lru_cache(_REMEMBERED)
def _known(head: Head) -> _Asking:
    return _Asking.of(
        {
            "type": "http",
            "method": "POST",
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": b"",
            "headers": head.headers,
        }
    )


def _named(error: OverloadedError, path: str, name: str) -> bytes:
    wanted = (str(error), ceil(error.retry_after_s), error.limit, error.received, path)
    if len(name) == len(_NAME):
        head, body = _remembered(*wanted, _NAME)
        body = body.replace(_NAME.encode(), name.encode())
    else:
        head, body = _rendered(*wanted, name)
    return b"%b%b: %b\r\n\r\n%b" % (head, request_id.NAME, name.encode(), body)


def _rendered(
    message: str, retry_after_s: int, limit: float | None, received: float | None, path: str, name: str
) -> tuple[bytes, bytes]:
    """Headers, but for the name of the request, and body of the answer that `problems` gives."""
    error = OverloadedError(message, retry_after_s=retry_after_s, limit=limit, received=received)
    request = Request({"type": "http", "path": path, "headers": [], "state": {"request_id": name}})
    answer = problems.response(error, request)
    return b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers), bytes(answer.body)


_remembered = lru_cache(1024)(_rendered)  # what differs from one refusal to the next is the name
