"""What refuses a request before its body is read: pure ASGI, since the framework reads the body first."""

from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import problems
from app.errors import BodyTooLargeError

_LONGEST_NUMBER: Final = 18


class BodyLimit:
    """Refuses bodies longer than `max_bytes`: declared ones at once, others when that many have arrived."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and (len(declared) > _LONGEST_NUMBER or int(declared) > self._max_bytes):
            error = self._too_large(f"{declared[:_LONGEST_NUMBER]} bytes were announced")
            await problems.response(error, Request(scope))(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._too_large("more bytes than that have arrived")
            return message

        return counted

    def _too_large(self, what: str) -> BodyTooLargeError:
        return BodyTooLargeError(f"The body may have at most {self._max_bytes:,} bytes; {what}.")
