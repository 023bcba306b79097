"""Refuses what cannot be answered before its body is read, so that a full service stays quick."""

from collections.abc import Iterable
from math import inf
from operator import attrgetter
from time import monotonic
from typing import Final, Self

from starlette.types import Scope

from app.api import ways_in
from app.api.deadline import timeout_s
from app.api.limits import announced_bytes
from app.decoding import Decoder
from app.errors import ModelError, OverloadedError
from app.metrics import Metrics
from app.model import Model
from app.serving import Serving
from app.settings import Settings

# Of the time that a request allows: what is estimated to take longer would often be too late.
_IN_TIME: Final = 0.8
_WARY_S: Final = 0.1  # a service that refused one expects others


class Gate:
    """Counts the requests to classify that are being received or answered, whatever way they came in.

    Of other requests it counts the bytes alone.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._many = min(settings.queue_pictures, settings.max_requests_in_flight)
        self._counted = _Counted(self, metrics)
        self._coming = 0
        self.reserved = 0
        self._wary_until = 0.0
        self.in_flight = 0
        self.received_bytes = 0

    @property
    def is_crowded(self) -> bool:
        """Whether one more may well be too much: so many are in, or one was too much a moment ago."""
        return self.in_flight + self._coming >= self._many or monotonic() < self._wary_until

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

    @property
    def most_pictures(self) -> int:
        """How many may wait, and so how many one request may have."""
        return self._settings.queue_pictures

    def check_any(self, models: Iterable[Model], decoder: Decoder, allowed_s: float) -> None:
        """For one more that has not said yet which of these, at least one, it asks: it may be the idlest.

        Raises:
            OverloadedError: none of them would take it.
        """
        refusals = []
        for model in models:
            too_much = self._excess(model, decoder, allowed_s, 0, 0)
            if too_much is None:
                return
            refusals.append(too_much)
        self._expect_more()
        raise min(refusals, key=attrgetter("retry_after_s"))

    def excess(
        self, model: Model, decoder: Decoder, allowed_s: float, ahead: int = 0, body_bytes: int = 0
    ) -> OverloadedError | None:
        """What there is too much of for one more that allows so many seconds for its answer.

        To raise and to catch it would take as long as to find it: microseconds, since a service that is full
        does little else. `ahead` are requests that are counted nowhere else and come first; `body_bytes` is
        what is still to be read. A decoder that has nothing to do takes them, however many.
        """
        too_much = self._excess(model, decoder, allowed_s, ahead, body_bytes)
        if too_much:
            self._expect_more()
        return too_much

    def _expect_more(self) -> None:
        self._wary_until = monotonic() + _WARY_S

    def _excess(
        self,
        model: Model,
        decoder: Decoder,
        allowed_s: float,
        ahead: int,
        body_bytes: int,
    ) -> OverloadedError | None:
        pictures = ahead + decoder.waiting + model.queued + self.reserved
        most = self._settings.queue_pictures
        if pictures >= most:
            return OverloadedError(
                f"{pictures} pictures are waiting and at most {most} may.",
                retry_after_s=decoder.wait_s + model.wait_s,
                limit=most,
                received=pictures,
            )
        requests, most = ahead + self.in_flight, self._settings.max_requests_in_flight
        if requests >= most:
            return OverloadedError(
                f"{requests} requests are being answered or received and at most {most} may.",
                reason="requests",
                retry_after_s=decoder.wait_s + model.wait_s,
                limit=most,
                received=requests,
            )
        waiting, most = decoder.waiting_bytes, self._settings.queue_bytes
        if waiting and waiting + body_bytes > most:
            return OverloadedError(
                f"{waiting:,} bytes of pictures wait to be decoded, this request has {body_bytes:,}, and at "
                f"most {most:,} may.",
                reason="bytes",
                retry_after_s=decoder.wait_s + model.wait_s,
                limit=most,
                received=waiting + body_bytes,
            )
        return _lateness(model, decoder, allowed_s) if pictures else None

    def reserve(self, pictures: int, model: Model, decoder: Decoder, allowed_s: float = inf) -> "Reservation":
        """Places for the pictures of one request, which come one after the other.

        Without them, a request would be refused when half of it is computed, and under load every one would.

        Raises:
            OverloadedError: there are not so many left, or the last would be answered too late.
        """
        waiting, most = decoder.waiting + model.queued + self.reserved, self._settings.queue_pictures
        too_much = None
        if waiting:
            too_much = _lateness(model, decoder, allowed_s, self.reserved + pictures)
        if waiting and waiting + pictures > most:
            too_much = OverloadedError(
                f"{waiting} pictures are waiting, this request has {pictures}, and at most {most} may wait.",
                retry_after_s=decoder.wait_s + model.answer_s(self.reserved),
                limit=most,
                received=waiting + pictures,
            )
        if too_much:
            self._expect_more()
            raise too_much
        return Reservation(self, pictures)

    def counted(self) -> "_Counted":
        """Counts one more while it lasts."""
        return self._counted

    def receiving(self) -> "_Receiving":
        """Gives what to call with the size in bytes of each part of a body; they count while it lasts.

        What it gives raises:
            OverloadedError: all bodies together have become too large.
        """
        return _Receiving(self, self._settings.received_bytes)


class Reservation:
    """Places that are kept, while it lasts, for pictures that have not come to them yet."""

    def __init__(self, gate: Gate, pictures: int) -> None:
        self._gate = gate
        self._left = pictures

    def __enter__(self) -> Self:
        self._gate.reserved += self._left
        return self

    def take(self, pictures: int = 1) -> None:
        """So many come to theirs, and are counted where they wait from now on."""
        self._left -= pictures
        self._gate.reserved -= pictures

    def __exit__(self, *_: object) -> None:
        self.take(self._left)


def _lateness(model: Model, decoder: Decoder, allowed_s: float, pictures: int = 1) -> OverloadedError | None:
    """For so many more that would be answered too late.

    To let it wait would help nobody, and an engine that always takes the oldest would be busy with what is
    about to be given up. Asked only while something waits: so an estimate that is too long is soon mended by
    pictures that came in, as the queue ends.
    """
    takes_s = decoder.wait_s + model.answer_s(pictures)
    if takes_s <= _IN_TIME * allowed_s:
        return None
    takes, allowed = float(f"{takes_s:.2g}"), round(allowed_s, 3)
    return OverloadedError(
        f"An answer would take about {takes:g} s, too long for a request that allows {allowed:g} s.",
        reason="time",
        retry_after_s=takes_s,
        limit=allowed,
        received=takes,
    )


class _Counted:
    """Counts a request while it lasts.

    A class, as everything that every request enters: a function made a manager costs it five times as much.
    """

    def __init__(self, gate: Gate, metrics: Metrics) -> None:
        self._gate = gate
        self._metrics = metrics

    def __enter__(self) -> None:
        self._gate.in_flight += 1
        self._metrics.in_flight += 1

    def __exit__(self, *_: object) -> None:
        self._gate.in_flight -= 1
        self._metrics.in_flight -= 1


class _Receiving:
    """The bytes of one body."""

    def __init__(self, gate: Gate, most_bytes: int) -> None:
        self._gate = gate
        self._most_bytes = most_bytes
        self._received = 0

    def __enter__(self) -> Self:
        return self

    def __call__(self, size_bytes: int) -> None:
        """So much more has arrived."""
        self._received += size_bytes
        self._gate.received_bytes += size_bytes
        here, most = self._gate.received_bytes, self._most_bytes
        if size_bytes and here > most:
            raise OverloadedError(
                f"{here:,} bytes of requests are here and at most {most:,} may be.",
                reason="bytes",
                limit=most,
                received=here,
            )

    def __exit__(self, *_: object) -> None:
        self._gate.received_bytes -= self._received


class Admission:
    """Lets a request to classify in if a model answers, its pictures can wait, and it says nothing absurd."""

    def __init__(self, settings: Settings, gate: Gate) -> None:
        self.gate = gate
        self._settings = settings

    def check(self, scope: Scope, serving: Serving, decoder: Decoder) -> None:
        """For requests to classify; everything else (probes, metrics, pages) need not ask.

        Raises:
            ParameterError: its deadline makes no sense.
            NotReadyError: no model answers.
            OverloadedError: the service is full, or too full for the deadline.
        """
        allowed_s = self.allowed_s(scope)
        body_bytes = announced_bytes(scope) if decoder.waiting_bytes else 0
        too_much = self.excess(serving, decoder, ways_in.reference(scope), allowed_s, body_bytes=body_bytes)
        if too_much:
            raise too_much

    def allowed_s(self, scope: Scope) -> float:
        """Seconds that its answer may take. Raises ParameterError if what it says of that makes no sense."""
        return timeout_s(scope, self._settings)

    def excess(
        self,
        serving: Serving,
        decoder: Decoder,
        reference: ways_in.Reference | None,
        allowed_s: float,
        ahead: int = 0,
        body_bytes: int = 0,
    ) -> OverloadedError | None:
        """What there is too much of for one more that allows so many seconds; `reference` is whom it asks.

        `ahead` of it come requests that are counted nowhere else, and `body_bytes` of it are not yet read.

        Raises:
            NotReadyError: no model answers.
        """
        return self.gate.excess(_asked(serving, reference), decoder, allowed_s, ahead, body_bytes)


def _asked(serving: Serving, reference: ways_in.Reference | None) -> Model:
    """The version that is to answer; the live one for what is not there, which the handler will say."""
    if reference is None:
        return serving.live
    try:
        return serving.find(*reference)
    except ModelError:
        return serving.live
