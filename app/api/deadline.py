"""Whether an answer is still worth giving: in time, and to somebody who waits for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from app.errors import DeadlineError, ParameterError
from app.settings import Settings

HEADER: Final = "X-Request-Timeout-Ms"
PARAMETER: Final[dict[str, Any]] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Time for the answer once the body has arrived, in milliseconds; 504 after that. The "
    "service may allow less.",
    "schema": {"type": "integer", "minimum": 1},
}

_LONGEST_NUMBER: Final = 12
# Most answers are there sooner, so most requests are spared a task that listens.
_QUICK_S: Final = 0.05


def timeout_s(request: Request, settings: Settings) -> float:
    """Seconds that an answer may take once the body is read: what the header asks for, within the setting.

    Raises:
        ParameterError: the header is no whole number of milliseconds, or 0.
    """
    given = request.headers.get(HEADER)
    if given is None:
        return settings.request_timeout_s
    if not (given.isascii() and given.isdecimal() and len(given) <= _LONGEST_NUMBER and int(given)):
        raise ParameterError(
            f"The header {HEADER} must be a whole number of milliseconds, at least 1; something else was "
            "received."
        )
    return min(int(given) / 1000, settings.request_timeout_s)


@asynccontextmanager
async def deadline(request: Request, settings: Settings) -> AsyncIterator[None]:
    """Gives up what is awaited inside when the time is over or the caller leaves; the body has been read.

    Raises:
        DeadlineError: the time is over.
        ClientDisconnect: nobody waits any more.
    """
    seconds = timeout_s(request, settings)
    async with _Caller(request.receive) as caller:
        try:
            async with asyncio.timeout(seconds) as caller.patience:
                yield
        except TimeoutError as error:
            if caller.left:
                raise ClientDisconnect from error
            raise too_late(seconds) from error


def too_late(seconds: float) -> DeadlineError:
    return DeadlineError(f"There was no answer within {seconds:g} s.", limit=seconds)


class _Caller:
    """Listens for the end of the connection, and with it ends `patience`."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._listener: asyncio.Task[None] | None = None
        self.patience = asyncio.timeout(None)
        self.left = False

    async def __aenter__(self) -> "_Caller":
        self._timer = asyncio.get_running_loop().call_later(_QUICK_S, self._start_to_listen)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()

    def _start_to_listen(self) -> None:
        self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left = not self.patience.expired()
        if self.left:
            self.patience.reschedule(asyncio.get_running_loop().time())
