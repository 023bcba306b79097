"""What refuses a request before its body is read: pure ASGI, since the framework reads the body first."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import problems
from app.errors import BodyTooLargeError

_LONGEST_NUMBER: Final = 18


class BodyLimit:
    """Refuses bodies longer than `max_bytes`: declared ones at once, others when that many have arrived.

    Paths in `exceptions` have a limit of their own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, exceptions: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._exceptions = exceptions or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._exceptions.get(scope["path"], self._max_bytes)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and (len(declared) > _LONGEST_NUMBER or int(declared) > max_bytes):
            shown = declared[:_LONGEST_NUMBER].decode()
            error = _too_large(max_bytes, f"{shown} bytes were announced", int(shown))
            await problems.response(error, Request(scope))(scope, receive, send)
            return
        await self._app(scope, _counted(receive, max_bytes), send)


def _counted(receive: Receive, max_bytes: int) -> Receive:
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise _too_large(max_bytes, "more bytes than that have arrived", received)
        return message

    return counted


def _too_large(max_bytes: int, what: str, received: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"The body may have at most {max_bytes:,} bytes; {what}.", limit=max_bytes, received=received
    )
