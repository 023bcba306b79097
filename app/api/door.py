"""Refuses what a full service cannot take as soon as the server knows its headers, without a task for it.

`Front` would say the same, but at ten times the load that a service can bear it would do little else.
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from math import ceil
from time import monotonic
from typing import Final, NamedTuple, Self

from fastapi import FastAPI, Request
from starlette.types import Scope

from app.api import problems, request_id, ways_in
from app.api.admission import Admission
from app.api.deadline import NAME as DEADLINE
from app.api.headers import raw_header
from app.api.limits import SOON_READ_BYTES, is_soon_read
from app.api.observation import Observed, shown_path
from app.api.plain_request import Head
from app.errors import Overload, OverloadedError, ServiceError
from app.metrics import Metrics

_DIGIT: Final = "~"  # in place of those of the name of a request
# For so long what was found too much is told to others, too: a small part of the time that what waits takes.
_LEAST_SHUT_S: Final = 0.001
_MOST_SHUT_S: Final = 0.01
_SHUT: Final = 0.02
_METHOD: Final = "POST"  # of whatever classifies
_REMEMBERED: Final = 256

Client = tuple[str, int] | None  # address and port


class Door:
    """Of one service, whose `Front` has the same `admission`."""

    def __init__(self, service: FastAPI, admission: Admission, names: request_id.Names) -> None:
        self._service = service
        self._metrics: Metrics = service.state.metrics
        self._admission = admission
        self._names = names
        self._shut: _Shut | None = None

    def refusal(self, scope: Scope) -> bytes | None:
        """The answer without its status line, 503; None to whoever may come in, or needs another answer.

        A refusal has been counted and logged. Who comes in is counted until its task, which has to be made
        at once, has taken its first step.
        """
        answer = self._refusal(_asking(scope), scope["client"]) if self._may_refuse else None
        if answer is None:
            self._let_in()
        return answer

    def refusal_of(self, head: Head, client: Client) -> bytes | None:
        """The same for a plain request from `client`."""
        shut = self._shut
        if shut and shut.is_for_plain(head):
            return self._refuse(shut, head.path, client, self._names.new())
        answer = self._refusal(_asking_plainly(head), client) if self._may_refuse else None
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

    def _refusal(self, asking: "_Asking", client: Client) -> bytes | None:
        shut = self._shut
        if not (shut and shut.is_for(asking)):
            too_much = self._too_much(asking) if asking.way_in else None
            if too_much is None:
                return None
            self._shut = shut = _Shut.of(too_much, asking)
        return self._refuse(shut, asking.shown, client, self._names.of(asking.name))

    def _too_much(self, asking: "_Asking") -> OverloadedError | None:
        state, ahead = self._service.state, self._admission.gate.coming
        try:
            allowed_s = self._admission.allowed_s({"headers": asking.headers})
            return self._admission.excess(
                state.serving, state.decoder, asking.reference, allowed_s, ahead=ahead
            )
        except ServiceError:
            return None

    def _refuse(self, shut: "_Shut", shown: str, client: Client, name: str) -> bytes:
        seen = Observed()
        seen.status, seen.code = HTTPStatus.SERVICE_UNAVAILABLE, OverloadedError.code
        seen.overload = shut.told.reason
        seen.count(self._metrics, shut.way_in, _METHOD, classifies=True)
        seen.log(_METHOD, shown, client[0] if client else "", name, quiet=False)
        head, between = _rendered(shut.told, shut.path, len(name))
        named = name.encode()
        return b"%b%b\r\n\r\n%b" % (head, named, named.join(between))


class _Shut(NamedTuple):
    """What there was too much of for a request to `path`, and is until a moment for all others like it.

    Those ask by the same `deadline`: one that allows more time may be answered.
    """

    until: float
    path: str
    way_in: str
    deadline: bytes | None
    told: "_Told"

    @classmethod
    def of(cls, too_much: OverloadedError, asking: "_Asking") -> Self:
        for_s = min(_MOST_SHUT_S, max(_LEAST_SHUT_S, _SHUT * too_much.retry_after_s))
        told = _Told.of(too_much)
        return cls(monotonic() + for_s, asking.path, asking.way_in, asking.deadline, told)

    def is_for(self, asking: "_Asking") -> bool:
        alike = (asking.path, asking.way_in, asking.deadline) == (self.path, self.way_in, self.deadline)
        return alike and monotonic() < self.until

    def is_for_plain(self, head: Head) -> bool:
        """The same of one that has no name of its own either, before anything else is known of it."""
        return (
            head.path == self.path
            and monotonic() < self.until
            and head.body_bytes <= SOON_READ_BYTES
            and head.headers.get(DEADLINE) == self.deadline
            and request_id.NAME not in head.headers
        )


class _Told(NamedTuple):
    """What an answer says of there being too much; two that say the same are equal."""

    detail: str
    reason: Overload
    retry_after_s: int
    limit: float | None
    received: float | None

    @classmethod
    def of(cls, error: OverloadedError) -> Self:
        return cls(str(error), error.reason, ceil(error.retry_after_s), error.limit, error.received)


class _Asking(NamedTuple):
    """What decides about a request; `way_in` is empty if it is not refused here.

    That is what classifies nothing, and what has more of a body than is soon read over. `shown` is the path
    as it came, `deadline` what the caller says of it, and `name` what it calls the request.
    """

    path: str
    shown: str
    headers: Sequence[tuple[bytes, bytes]]
    way_in: str
    reference: ways_in.Reference | None
    deadline: bytes | None
    name: str


def _asking(scope: Scope) -> _Asking:
    scope = ways_in.folded(scope)
    return _Asking(
        path=scope["path"],
        shown=shown_path(scope),
        headers=scope["headers"],
        way_in=(ways_in.template(scope) or "") if is_soon_read(scope) else "",
        reference=ways_in.reference(scope),
        deadline=raw_header(scope, DEADLINE),
        name=request_id.given(scope),
    )


def _asking_plainly(head: Head) -> _Asking:
    path, way_in, reference = _way_in(head.path)
    headers = list(head.headers.items())
    return _Asking(
        path=path,
        shown=head.path,
        headers=headers,
        way_in=way_in if head.body_bytes <= SOON_READ_BYTES else "",
        reference=reference,
        deadline=head.headers.get(DEADLINE),
        name=request_id.given({"headers": headers}),
    )


@lru_cache(_REMEMBERED)
def _way_in(path: str) -> tuple[str, str, ways_in.Reference | None]:
    scope = ways_in.folded({"method": _METHOD, "path": path})
    return scope["path"], ways_in.template(scope) or "", ways_in.reference(scope)


@lru_cache(_REMEMBERED)  # most refusals say the same, and names have a few lengths
def _rendered(told: _Told, path: str, digits: int) -> tuple[bytes, list[bytes]]:
    """The answer of `problems`: headers up to the name, of so many `digits`, and the body without it."""
    name = _DIGIT * digits
    error = OverloadedError(
        told.detail, retry_after_s=told.retry_after_s, limit=told.limit, received=told.received
    )
    request = Request({"type": "http", "path": path, "headers": [], "state": {"request_id": name}})
    answer = problems.response(error, request)
    head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
    return head + request_id.NAME + b": ", bytes(answer.body).split(name.encode())
