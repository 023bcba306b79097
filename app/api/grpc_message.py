"""The one message of a call over gRPC, which the library gives away only once it is there as a whole."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import nullcontext

from app.errors import BodyTimeoutError, MalformedBodyError, OverloadedError
from app.settings import Settings


class Messages:
    """Reads messages, and of large ones no more at once than fit into what may be received.

    What is there of a message that is on its way, nobody here knows: each counts as the longest. Those that
    wait for their turn stay with their callers, but for what the library takes before it is asked.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_body_bytes
        self._most = max(1, settings.received_bytes // settings.max_body_bytes)
        self._places = asyncio.Semaphore(self._most)

    async def read(self, messages: AsyncGenerator[bytes], timeout_s: float, *, is_large: bool) -> bytes:
        """The message. One that is not `is_large` waits for nobody: probes are answered whoever sends.

        Raises:
            BodyTimeoutError: it did not arrive in time.
            OverloadedError: it had no turn in that time.
            MalformedBodyError: there is none, or it is too long.
        """
        has_turn = False
        try:
            async with asyncio.timeout(timeout_s), self._places if is_large else nullcontext():
                has_turn = True
                return await anext(messages)
        except TimeoutError as error:
            if not has_turn:
                raise self._too_many() from error
            raise BodyTimeoutError(f"The message did not arrive within {timeout_s:g} s.") from error
        except StopAsyncIteration as error:
            raise MalformedBodyError(
                f"The call has no message, or one of more than {self._max_bytes:,} bytes."
            ) from error

    def _too_many(self) -> OverloadedError:
        most = self._most
        return OverloadedError(
            f"{most} messages are being received and at most {most} may be.", reason="bytes", limit=most
        )
