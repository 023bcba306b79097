"""What uvicorn writes to: sends in one piece what belongs together, and closes without losing an answer."""

import asyncio
from typing import Any, Final

# A connection that is closed while its client still sends is reset, and the reset overtakes the answer. So
# what still comes is read and thrown away first, RFC 9112, 9.6, for so long and up to so much.
LINGER_S: Final = 5.0
LINGER_BYTES: Final = 256 * 1024 * 1024


class JoinedTransport:
    """A transport that sends at once what is written within one turn of the event loop.

    Uvicorn writes the head and the body of an answer one after the other; a system call for each would take
    a tenth of the time that a small request takes.

    `has_more_to_come` is for whoever reads to say: while it is true, `close` sends what was written and the
    end of the stream, and leaves the connection to `discard` until the client has seen that.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.has_more_to_come = False
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._lingering: asyncio.TimerHandle | None = None
        self._discarded_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """See `asyncio.Transport`; from `close` on, whatever still arrives."""
        return self._lingering is not None or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """See `asyncio.Transport`."""
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)

    def write_whole(self, data: bytes) -> None:
        """The same at once, for what nothing follows."""
        self._parts.append(data)
        self._send()

    def close(self) -> None:
        """See `asyncio.Transport`; what was written is sent before. A second time, it is closed at once."""
        self._send()
        if self.has_more_to_come and not self.is_closing():
            self._lingering = self._loop.call_later(LINGER_S, self._transport.close)
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()

    def discard(self, size_bytes: int) -> None:
        """So much came behind the last answer."""
        self._discarded_bytes += size_bytes
        if self._discarded_bytes > LINGER_BYTES:
            self._transport.close()

    def is_gone(self) -> None:
        """The connection is; nothing waits for it any more."""
        if self._lingering is not None:
            self._lingering.cancel()

    def _send(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self.is_closing():
            self._transport.writelines(parts)
