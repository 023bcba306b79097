"""The time within which an answer is worth giving."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import DeadlineError


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Gives up what is being awaited inside when the time is over.

    Raises:
        DeadlineError: it is.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise DeadlineError(f"There was no answer within {seconds:g} s.") from error
