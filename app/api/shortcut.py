"""The way of nearly all traffic, past the framework's routing and its search for what a handler needs."""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import problems
from app.decoding import Decoder
from app.errors import ServiceError
from app.serving import Serving
from app.settings import Settings

Handler = Callable[[Request, Serving, Decoder, Settings], Awaitable[Response]]


class Shortcut:
    """Calls the handler of `POST path` itself; its route stays, for the documentation and for other methods.

    The framework spends as long on finding and calling a handler as this service spends in it.
    """

    def __init__(self, app: ASGIApp, path: str, handler: Handler) -> None:
        self._app = app
        self._path = path
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        state = request.app.state
        try:
            response = await self._handler(request, state.serving, state.decoder, state.settings)
        except ServiceError as error:
            response = problems.response(error, request)
        except ClientDisconnect:
            response = problems.to_nobody(request)
        await response(scope, receive, send)
