"""Whether an answer is still worth giving: in time, and to somebody who waits for it."""

import asyncio
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

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


def too_late(limit_s: float) -> DeadlineError:
    return DeadlineError(f"There was no answer within {limit_s:g} s.", limit=limit_s)


class deadline:  # noqa: N801
    """Gives up what is awaited inside when the time is over or the caller leaves; the body has been read.

    Most answers are there sooner than either can matter, so at first this is one timer and nothing else.

    Raises:
        DeadlineError: the time is over.
        ClientDisconnect: nobody waits any more.
    """

    def __init__(self, request: Request, settings: Settings) -> None:
        self._seconds = timeout_s(request, settings)
        self._receive = request.receive
        self._patience = asyncio.timeout(None)
        self._listener: asyncio.Task[None] | None = None
        self._left = False

    async def __aenter__(self) -> None:
        await self._patience.__aenter__()
        loop = asyncio.get_running_loop()
        self._over_at = loop.time() + self._seconds
        self._timer = loop.call_later(min(self._seconds, _QUICK_S), self._watch)

    async def __aexit__(self, *failure: Any) -> None:
        self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()
        try:
            await self._patience.__aexit__(*failure)
        except TimeoutError as error:
            if self._left:
                raise ClientDisconnect from error
            raise too_late(self._seconds) from error

    def _watch(self) -> None:
        self._patience.reschedule(self._over_at)
        self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        """Waits for the end of the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left = not self._patience.expired()
        if self._left:
            self._patience.reschedule(asyncio.get_running_loop().time())
