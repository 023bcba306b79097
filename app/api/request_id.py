"""One name for a request in the answer, in errors and in logs."""

import re
import secrets
from collections.abc import Iterator
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = "X-Request-ID"
_NAME: Final = HEADER.lower().encode()
_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_DIGITS: Final = 32
_AT_ONCE: Final = 256  # asking the system for randomness takes longer than all else that is done here


class Names:
    """Names for requests: their callers', if these are plain words, new ones otherwise."""

    def __init__(self) -> None:
        self._made = _made()

    def of(self, given: str) -> str:
        return given if _ACCEPTABLE.fullmatch(given) else next(self._made)


def _made() -> Iterator[str]:
    while True:
        digits = secrets.token_hex(_AT_ONCE * _DIGITS // 2)
        yield from (digits[start : start + _DIGITS] for start in range(0, len(digits), _DIGITS))


class RequestId:
    """Takes the caller's id if it is a plain word, makes one otherwise, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._names = Names()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == _NAME), b"").decode("latin-1")
        request_id = self._names.of(given)
        scope.setdefault("state", {})["request_id"] = request_id

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_NAME, request_id.encode())]
            await send(message)

        await self._app(scope, receive, named)
