"""Decodes pictures beside the event loop, in a few threads and with a bound on how many may wait for them.

Pillow lets other threads run while it decodes and resizes, so about one thread per core uses all of them;
more would only hold more decoded pictures in memory at the same time. A picture that is certain to take less
time than the way to another thread and back is decoded where it is.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Final, Protocol, Self

from app import imaging, picture_structure
from app.cores import available_cores, give_way
from app.errors import OverloadedError, PictureError
from app.geometry import DEFAULT_FIT, Fit
from app.imaging import Limits, Picture
from app.metrics import Metrics
from app.picture_formats import FORMATS, TIFF
from app.settings import Settings

_SMOOTHING: Final = 0.2  # weight of the newest picture in the average time


class Decode(Protocol):
    """See `imaging.decode`."""

    def __call__(self, data: bytes, *, size: tuple[int, int], fit: Fit) -> Picture: ...


def _never(_data: bytes) -> bool:
    return False


class Decoder:
    """A thread pool for `decode`, past which go the pictures that `is_quick` picks.

    Belongs to one event loop.
    """

    def __init__(
        self,
        threads: int,
        *,
        max_pictures: int,
        decode: Decode = imaging.decode,
        is_quick: Callable[[bytes], bool] = _never,
        metrics: Metrics | None = None,
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode", initializer=give_way)
        self._threads = threads
        self._decode = decode
        self._is_quick = is_quick
        self._metrics = metrics or Metrics()
        self._max_pictures = max_pictures
        self._lock = threading.Lock()
        self._pictures = 0
        self._bytes = 0
        self._seconds_per_picture = 0.0

    @classmethod
    def configured(cls, settings: Settings, metrics: Metrics | None = None) -> Self:
        """With the threads, the queue and the limits that the settings ask for."""
        limits = Limits(
            settings.max_pixels,
            settings.max_side_pixels,
            settings.max_jpeg_scans,
            formats=FORMATS + ((TIFF,) if settings.accept_tiff else ()),
        )
        return cls(
            settings.decode_threads or available_cores(),
            max_pictures=settings.queue_pictures,
            decode=partial(imaging.decode, limits=limits),
            is_quick=picture_structure.is_quick,
            metrics=metrics,
        )

    @property
    def waiting(self) -> int:
        """Pictures that wait for a thread or are in one."""
        return self._pictures

    @property
    def waiting_bytes(self) -> int:
        """What these have together, encoded."""
        return self._bytes

    @property
    def wait_s(self) -> float:
        """How long it takes until these are done, judged by the latest ones."""
        return self._seconds_per_picture * self._pictures / self._threads

    async def decode(
        self, data: bytes, size: tuple[int, int], fit: Fit = DEFAULT_FIT, *, reserved: bool = False
    ) -> Picture:
        """See `imaging.decode`. A caller that is cancelled before its turn costs nothing more.

        A picture whose place is `reserved` is taken however many wait.

        Raises:
            PictureError: the bytes do not become a picture.
            OverloadedError: too many pictures are waiting already.
        """
        began = perf_counter()
        try:
            if self._is_quick(data):
                picture = self._decode(data, size=size, fit=fit)
            else:
                picture = await self._in_thread(data, size, fit, reserved=reserved)
        except PictureError as error:
            self._metrics.picture_refusals.labels(error.code).inc()
            raise
        self._metrics.took("decode", perf_counter() - began)
        return picture

    async def _in_thread(self, data: bytes, size: tuple[int, int], fit: Fit, *, reserved: bool) -> Picture:
        self._admit(len(data), reserved=reserved)
        try:
            future = self._pool.submit(self._timed, data, size, fit)
        except RuntimeError as error:  # the system gives no thread
            self._release(len(data))
            raise OverloadedError(f"No thread can decode the picture: {error}.", reason="threads") from error
        # Not when the caller leaves: a decode that has begun holds its memory until its thread is done with
        # it.
        future.add_done_callback(lambda _: self._release(len(data)))
        return await asyncio.wrap_future(future)

    def _timed(self, data: bytes, size: tuple[int, int], fit: Fit) -> Picture:
        began = perf_counter()
        try:
            return self._decode(data, size=size, fit=fit)
        finally:
            spent_s = perf_counter() - began
            with self._lock:
                self._seconds_per_picture += _SMOOTHING * (spent_s - self._seconds_per_picture)

    def _admit(self, size_bytes: int, *, reserved: bool) -> None:
        with self._lock:
            if self._pictures >= self._max_pictures and not reserved:
                raise OverloadedError(
                    f"{self._pictures} pictures wait to be decoded and at most {self._max_pictures} may.",
                    retry_after_s=self.wait_s,
                )
            self._pictures += 1
            self._bytes += size_bytes

    def _release(self, size_bytes: int) -> None:
        with self._lock:
            self._pictures -= 1
            self._bytes -= size_bytes

    def close(self) -> None:
        """Forgets what waits; the threads end with what they are doing."""
        self._pool.shutdown(wait=False, cancel_futures=True)
