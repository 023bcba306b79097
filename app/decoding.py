"""Decodes pictures beside the event loop, in a few threads and with a bound on what may wait for them.

Pillow lets other threads run while it decodes and resizes, so about one thread per core uses all of them;
more would only hold more decoded pictures in memory at the same time.
"""

import asyncio
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol, Self

from app import imaging
from app.errors import OverloadedError
from app.geometry import DEFAULT_FIT, Fit
from app.imaging import Limits, Picture
from app.picture_formats import FORMATS, TIFF
from app.settings import Settings


class Decode(Protocol):
    """See `imaging.decode`."""

    def __call__(self, data: bytes, *, size: tuple[int, int], fit: Fit) -> Picture: ...


class Decoder:
    """A thread pool for `decode`. Belongs to one event loop."""

    def __init__(
        self, threads: int, *, max_pictures: int, max_bytes: int, decode: Decode = imaging.decode
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._decode = decode
        self._max_pictures = max_pictures
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._pictures = 0
        self._bytes = 0

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        """With the threads, the queue and the limits that the settings ask for."""
        limits = Limits(
            settings.max_pixels,
            settings.max_side_pixels,
            settings.max_jpeg_scans,
            formats=FORMATS + ((TIFF,) if settings.accept_tiff else ()),
        )
        return cls(
            settings.decode_threads or len(os.sched_getaffinity(0)),
            max_pictures=settings.queue_pictures,
            max_bytes=settings.queue_bytes,
            decode=partial(imaging.decode, limits=limits),
        )

    async def decode(self, data: bytes, size: tuple[int, int], fit: Fit = DEFAULT_FIT) -> Picture:
        """See `imaging.decode`. A caller that is cancelled before its turn costs nothing more.

        Raises:
            PictureError: the bytes do not become a picture.
            OverloadedError: too many pictures or bytes are waiting already.
        """
        self._admit(len(data))
        future = self._pool.submit(self._decode, data, size=size, fit=fit)
        # Not when the caller leaves: a decode that has begun holds its memory until its thread is done with
        # it.
        future.add_done_callback(partial(self._release, len(data)))
        return await asyncio.wrap_future(future)

    def _admit(self, size_bytes: int) -> None:
        with self._lock:
            if self._pictures >= self._max_pictures or self._bytes + size_bytes > self._max_bytes:
                raise OverloadedError(
                    f"{self._pictures} pictures of {self._bytes:,} bytes together wait to be decoded; at "
                    f"most {self._max_pictures} pictures and {self._max_bytes:,} bytes may."
                )
            self._pictures += 1
            self._bytes += size_bytes

    def _release(self, size_bytes: int, _: Future[Picture]) -> None:
        with self._lock:
            self._pictures -= 1
            self._bytes -= size_bytes

    def close(self) -> None:
        """Forgets what waits; the threads end with what they are doing."""
        self._pool.shutdown(wait=False, cancel_futures=True)
