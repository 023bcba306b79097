"""Refuses what cannot be answered before its body is read, so that a full service stays quick."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request

from app.api import ways_in
from app.api.deadline import timeout_s
from app.decoding import Decoder
from app.errors import ModelError, OverloadedError
from app.metrics import Metrics
from app.model import Model
from app.serving import Serving
from app.settings import Settings


class Gate:
    """Counts the requests to classify that are being received or answered, whatever way they came in.

    Of other requests it counts the bytes alone.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._in_flight = 0
        self._coming = 0
        self._received_bytes = 0

    @property
    def is_crowded(self) -> bool:
        """Whether so many requests are in that another one may well be too much."""
        most = min(self._settings.queue_pictures, self._settings.max_requests_in_flight)
        return self._in_flight + self._coming >= most

    def let_in(self) -> None:
        """Counts a request that is on its way to its task, until `has_come`.

        A server hands over hundreds of them before the first task begins.
        """
        self._coming += 1

    def has_come(self) -> None:
        self._coming -= 1

    @property
    def coming(self) -> int:
        return self._coming

    def check(self, model: Model, decoder: Decoder, ahead: int = 0) -> None:
        """Costs microseconds, since a service that is full does little else.

        `ahead` are requests that are counted nowhere else and come first.

        Raises:
            OverloadedError: too many pictures are waiting, or too many requests are in.
        """
        pictures, most = ahead + decoder.waiting + model.queued, self._settings.queue_pictures
        if pictures >= most:
            raise OverloadedError(
                f"{pictures} pictures are waiting and at most {most} may.",
                retry_after_s=decoder.wait_s + model.wait_s,
                limit=most,
                received=pictures,
            )
        most = self._settings.max_requests_in_flight
        if ahead + self._in_flight >= most:
            raise OverloadedError(
                f"{ahead + self._in_flight} requests are being answered or received and at most {most} may.",
                retry_after_s=decoder.wait_s + model.wait_s,
                limit=most,
                received=ahead + self._in_flight,
            )

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts one more while it lasts."""
        self._in_flight += 1
        self._metrics.in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._metrics.in_flight -= 1

    @contextmanager
    def receiving(self) -> Iterator[Callable[[int], None]]:
        """Gives what to call with the size in bytes of each part of a body; they count while it lasts.

        What it gives raises:
            OverloadedError: all bodies together have become too large.
        """
        received, most = 0, self._settings.received_bytes

        def arrived(size_bytes: int) -> None:
            nonlocal received
            received += size_bytes
            self._received_bytes += size_bytes
            if size_bytes and self._received_bytes > most:
                raise OverloadedError(
                    f"{self._received_bytes:,} bytes of requests are here and at most {most:,} may be.",
                    limit=most,
                    received=self._received_bytes,
                )

        try:
            yield arrived
        finally:
            self._received_bytes -= received


class Admission:
    """Lets a request to classify in if a model answers, its pictures can wait, and it says nothing absurd."""

    def __init__(self, settings: Settings, gate: Gate) -> None:
        self.gate = gate
        self._settings = settings

    def check(self, request: Request, ahead: int = 0) -> None:
        """For requests to classify; everything else (probes, metrics, pages) need not ask.

        `ahead` of it come requests that are counted nowhere else.

        Raises:
            ParameterError: its deadline makes no sense.
            NotReadyError: no model answers.
            OverloadedError: the service is full.
        """
        timeout_s(request, self._settings)
        self.gate.check(_asked(request), request.app.state.decoder, ahead)


def _asked(request: Request) -> Model:
    """The version that is to answer; the live one for what is not there, which the handler will say."""
    serving: Serving = request.app.state.serving
    reference = ways_in.reference(request.scope)
    if reference is None:
        return serving.live
    try:
        return serving.find(*reference)
    except ModelError:
        return serving.live
