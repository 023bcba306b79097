"""One request and its answer on their way through the service."""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from app.api import arrival, limits, request_id, whole
from app.api.observation import RECORDED, Observed
from app.errors import OverloadedError
from app.metrics import Metrics

_CLOSE: Final = (b"connection", b"close")
_FAULT: Final = "internal_error"
# Asked for every few seconds, or by the dozen for one page, these would drown the rest.
_QUIET: Final = re.compile(r"/livez|/readyz|/metrics|/web/.*")


class Exchange(Observed):
    """Passes on what a client sends within the limits, and the answer with what every answer has.

    `name` is the id of the request; `most_bytes` is what its body may have; `arrived` is told of each part of
    it and may refuse that; `is_last` says whether the client had better open another connection.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        name: str,
        most_bytes: int,
        is_last: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.scope = scope
        self.name = name
        self.most_bytes = most_bytes
        self.arrived: Callable[[int], None] = _nothing
        self.closes = False
        self.is_answered = False
        self._is_last = is_last
        self._is_whole = False
        self._receive = receive
        self._send = send

    def receive_whole(self) -> None:
        """Counts a body that is here already, before anybody asks for it.

        Raises:
            BodyTooLargeError, OverloadedError: as `receive`.
        """
        body = arrival.whole_body(self.scope)
        if body is not None:
            self._count(len(body))
            self._is_whole = True

    async def receive(self) -> Message:
        """The next message from the client.

        Raises:
            BodyTooLargeError: its body is longer than it may be.
            OverloadedError: all bodies together are.
        """
        message = await self._receive()
        if message["type"] == "http.request" and not self._is_whole:
            try:
                self._count(len(message.get("body", b"")))
            except OverloadedError:
                self.closes = True  # the rest of the body is not worth reading
                raise
        return message

    def _count(self, size_bytes: int) -> None:
        self.read(size_bytes)
        if self.body_bytes > self.most_bytes:
            raise limits.too_large(self.most_bytes, "more bytes than that have arrived", self.body_bytes)
        self.arrived(size_bytes)

    def send(self, message: Message) -> Awaitable[None]:
        """Sends a message of the answer to the client."""
        if message["type"] == whole.MESSAGE:
            return self._send_whole(message)
        if message["type"] == "http.response.start":
            self.status, self.is_answered = message["status"], True
            message["headers"] = self._completed(message.get("headers", ()))
        return self._send(message)

    async def _send_whole(self, message: Message) -> None:
        status, body = message["status"], message["body"]
        headers = self._completed(message["headers"])
        self.status, self.is_answered = status, True
        take = whole.taker(self.scope)
        if take is None or not take(self.scope, status, headers, body):
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body})

    def _completed(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        named = (request_id.NAME, self.name.encode())
        if self.closes or self._is_last():
            return [*(each for each in headers if each[0].lower() != _CLOSE[0]), named, _CLOSE]
        return [*headers, named]

    def end(self, way_in: str | None, metrics: Metrics) -> None:
        """Counts and logs it, unless the server did; `way_in` is the template of a route that classifies."""
        scope = self.scope
        state = scope["state"]
        if RECORDED in state:
            return
        self.code = state.get("problem_code", "" if self.is_answered else _FAULT)
        self.overload = state.get("overload", "")
        quiet = way_in is None and _QUIET.fullmatch(scope["path"]) is not None
        self.record(scope, self.name, way_in, metrics, quiet=quiet)


def _nothing(_size_bytes: int) -> None:
    pass
