"""What refuses a request before its body is read: pure ASGI, since the framework reads the body first."""

from collections.abc import Callable, Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import problems
from app.api.admission import Gate
from app.errors import BodyTooLargeError, OverloadedError

_LONGEST_NUMBER: Final = 18


class BodyLimit:
    """Refuses bodies longer than `max_bytes`: declared ones at once, others when that many have arrived.

    Paths in `exceptions` have a limit of their own; one that ends with `/` stands for all below it. What all
    bodies hold together is counted by the `gate`, which refuses the part that is too much.
    """

    def __init__(
        self, app: ASGIApp, gate: Gate, max_bytes: int, exceptions: Mapping[str, int] | None = None
    ) -> None:
        self._app = app
        self._gate = gate
        self._max_bytes = max_bytes
        self._exceptions = exceptions or {}
        self._below = tuple(path for path in self._exceptions if path.endswith("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._limit(scope["path"])
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and (len(declared) > _LONGEST_NUMBER or int(declared) > max_bytes):
            shown = declared[:_LONGEST_NUMBER].decode()
            error = _too_large(max_bytes, f"{shown} bytes were announced", int(shown))
            await problems.response(error, Request(scope))(scope, receive, send)
            return
        with self._gate.receiving() as arrived:
            reception = _Reception(receive, send, max_bytes, arrived)
            await self._app(scope, reception.receive, reception.send)

    def _limit(self, path: str) -> int:
        if path.startswith(self._below):
            path = next(above for above in self._below if path.startswith(above))
        return self._exceptions.get(path, self._max_bytes)


class _Reception:
    """A body on its way in, and the answer to its request."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int, arrived: Callable[[int], None]) -> None:
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._arrived = arrived
        self._received = 0
        self._is_refused = False

    async def receive(self) -> Message:
        message = await self._receive()
        size_bytes = len(message.get("body", b""))
        self._received += size_bytes
        if self._received > self._max_bytes:
            raise _too_large(self._max_bytes, "more bytes than that have arrived", self._received)
        try:
            self._arrived(size_bytes)
        except OverloadedError:
            self._is_refused = True
            raise
        return message

    async def send(self, message: Message) -> None:
        if self._is_refused and message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Connection"] = "close"  # the rest of the body is not worth reading
        await self._send(message)


def _too_large(max_bytes: int, what: str, received: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"The body may have at most {max_bytes:,} bytes; {what}.", limit=max_bytes, received=received
    )
