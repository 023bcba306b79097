"""Whether an answer is still worth giving: in time, and to somebody who waits for it."""

import asyncio
from types import TracebackType
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from app.api import departure
from app.api.headers import header
from app.api.patience import patience
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

MEANINGLESS: Final = (
    f"The header {HEADER} must be a whole number of milliseconds, at least 1; something else was received."
)
NAME: Final = HEADER.lower().encode()
_LONGEST_NUMBER: Final = 12
# Many answers are there sooner.
_QUICK_S: Final = 0.05


def timeout_s(scope: Scope, settings: Settings) -> float:
    """Seconds that an answer may take once the body is read: what the header asks for, within the setting.

    Raises:
        ParameterError: the header is no whole number of milliseconds, or 0.
    """
    given = header(scope, NAME)
    if given is None:
        return settings.request_timeout_s
    if not (given.isascii() and given.isdecimal() and len(given) <= _LONGEST_NUMBER and int(given)):
        raise ParameterError(MEANINGLESS)
    return min(int(given) / 1000, settings.request_timeout_s)


def too_late(limit_s: float) -> DeadlineError:
    return DeadlineError(f"There was no answer within {limit_s:g} s.", limit=limit_s)


class deadline:  # noqa: N801
    """Gives up what is awaited inside when the time is over or the caller leaves; the body has been read.

    Where the server does not tell that the caller has left, a task listens for it, once many answers would
    have been given.

    Raises:
        DeadlineError: the time is over.
        ClientDisconnect: nobody waits any more.
    """

    def __init__(self, request: Request, settings: Settings) -> None:
        self._seconds = timeout_s(request.scope, settings)
        self._patience = patience(self._seconds)
        self._receive = request.receive
        self._departure = departure.of(request.scope)
        self._timer: asyncio.TimerHandle | None = None
        self._listener: asyncio.Task[None] | None = None
        self._left = False

    async def __aenter__(self) -> None:
        self._patience.__enter__()
        if self._departure is not None:
            self._departure.watch(self._leave)
        else:
            self._timer = asyncio.get_running_loop().call_later(_QUICK_S, self._watch)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._departure is not None:
            self._departure.forget(self._leave)
        for ended in (self._timer, self._listener):
            if ended is not None:
                ended.cancel()
        try:
            self._patience.__exit__(kind, error, trace)
        except TimeoutError as over:
            if self._left:
                raise ClientDisconnect from over
            raise too_late(self._seconds) from over

    def _watch(self) -> None:
        self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        """Waits for the end of the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        if not self._patience.is_over:
            self._left = True
            # Not from within the task itself, which could be past its last chance to notice.
            asyncio.get_running_loop().call_soon(self._patience.end)
