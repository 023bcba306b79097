"""The body of a request in a protocol that ignores content types: read whole, unpacked and parsed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from starlette.requests import Request

from app.api import content_encoding
from app.api.patience import patience
from app.errors import BodyTimeoutError
from app.settings import Settings

_T = TypeVar("_T")

_QUICK_BYTES: Final = 64 * 1024  # parsed within a few milliseconds

# More would be no faster, since Python code runs in one thread at a time, and each may hold many times the
# bytes of its body. Those that wait hold the bytes alone.
_PARSERS: Final = ThreadPoolExecutor(2, thread_name_prefix="parse")


async def read(request: Request, timeout_s: float) -> bytes:
    """The body as it came.

    Raises:
        UploadError: it is too long, or did not arrive in time.
    """
    try:
        with patience(timeout_s):
            return await request.body()
    except TimeoutError as error:
        raise BodyTimeoutError(f"The body did not arrive within {timeout_s:g} s.") from error


async def parsed(request: Request, data: bytes, settings: Settings, parse: Callable[[bytes], _T]) -> _T:
    """What `parse` makes of the body once it is unpacked; beside the event loop unless that is quickly done.

    Raises:
        UploadError: it cannot be unpacked, or is too long then; and whatever `parse` raises.
    """
    encoding = request.headers.get("content-encoding", "")

    def work() -> _T:
        return parse(content_encoding.decode(data, encoding, settings.max_body_bytes))

    return await beside(work, len(data) if not encoding else None)


async def beside(work: Callable[[], _T], size_bytes: int | None) -> _T:
    """What `work` returns; it runs beside the event loop unless its size is known and small."""
    if size_bytes is not None and size_bytes <= _QUICK_BYTES:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_PARSERS, work)
