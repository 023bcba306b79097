"""What uvicorn leaves open before a request reaches the application: endless headers and senders without end.

Its httptools protocol takes headers of any size and waits for ever for the rest of a request. Here each
request has to send its headers, and then its body, within an absolute time, and headers are counted while
they arrive. Refusals look like the application's own, as far as a connection is still there to write to.
"""

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache
from heapq import nsmallest
from http import HTTPStatus
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api import arrival, departure, plain_request, whole
from app.api.door import Door
from app.api.plain_request import Head
from app.api.refusals import Refusals
from app.errors import (
    BodyTimeoutError,
    HeadersTimeoutError,
    HeadersTooLargeError,
    MalformedRequestError,
    UploadError,
)
from app.joined_transport import JoinedTransport
from app.metrics import Metrics
from app.settings import Settings

if TYPE_CHECKING:
    from starlette.types import Scope
    from uvicorn._types import ASGI3Application

# The application has its own, earlier limit for bodies that it reads; this one is for those that it does not.
BODY_GRACE_S: Final = 2.0
_CLOSED_SHARE: Final = 64  # of all connections, when there are too many
_Expected = tuple[float, Callable[[], None]]  # seconds, and what happens when they are over

_ASGI_HTTP: Final = "2.3"  # the version of the specification that uvicorn keeps to
_LINE_OVERHEAD_BYTES: Final = 4  # colon, space, CR and LF
_PATH: Final = re.compile(rb"/[^?#]*")  # what stands behind it may hold secrets
_UNAVAILABLE: Final = STATUS_LINE[HTTPStatus.SERVICE_UNAVAILABLE]


def bounded(
    settings: Settings, door: Door | None = None, metrics: Metrics | None = None
) -> type[HttpToolsProtocol]:
    """The protocol class for `uvicorn.Config(http=...)`, which is given no arguments of ours.

    The `door` refuses requests before the application sees them, if there is one. What the protocol itself
    refuses is counted in the application's `metrics`, if it is given them.
    """
    its_own = {"limits": settings, "door": door, "refusals": Refusals(metrics)}
    return type("BoundedProtocol", (_BoundedProtocol,), its_own)


class _BoundedProtocol(HttpToolsProtocol):
    limits: ClassVar[Settings]
    door: ClassVar[Door | None]
    refusals: ClassVar[Refusals]

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._expected: _Expected | None = None
        self._is_armed = False
        self._deadline: asyncio.TimerHandle | None = None
        self._in_headers = self._in_body = False
        self._unparsed_bytes = 0
        self._header_bytes = 0
        self._header_count = 0
        self._refusal: UploadError | None = None
        self._waited_s = 0.0
        self._departure = departure.Departure()
        self._idle_since: float | None = None
        self._quiet_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    # Connections

    @property
    def has_yet_to_ask(self) -> bool:
        """Whether it is open and its first request is not here, or not whole enough to be begun."""
        cycle: Any = self.cycle  # None before the first request
        return cycle is None and self._idle_since is None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        self._joined = JoinedTransport(transport, self.loop)
        super().connection_made(self._joined)  # type: ignore[arg-type]  # what it uses of it
        self._expect_headers()
        self._arm()
        self._quiet_since = self.loop.time()
        if len(self.connections) > self.limits.max_connections:
            self._make_room()

    def _make_room(self) -> None:
        """Closes who has been quiet for longest, or the new one if nobody is.

        Probes come on connections too, so there must always be one for them. Closing a few together makes
        looking for them rare.
        """
        protocols: set[_BoundedProtocol] = self.connections  # type: ignore[assignment]  # uvicorn names its own
        quiet = [each for each in protocols if each._is_between_requests and each is not self]
        count = max(1, len(protocols) // _CLOSED_SHARE)
        for each in nsmallest(count, quiet, key=attrgetter("_quiet_since")) or [self]:
            protocols.discard(each)  # it is gone only in the next turn of the event loop
            each.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._joined.is_gone()
        super().connection_lost(exc)
        self._departure.happen()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            self._joined.discard(len(data))  # refused already; what else arrives is not worth parsing
            return
        if self._is_between_requests and (head := plain_request.read(data)) and self._may_have(head):
            self._begin_plain(head, data)
            return
        if self._in_headers:
            self._unparsed_bytes += len(data)
        super().data_received(data)
        # The parser says nothing about a header before its end.
        if self._in_headers and self._unparsed_bytes > self.limits.max_header_bytes:
            self._refuse(self._too_large(self._unparsed_bytes))
        if not self.transport.is_closing():
            if self._expected is None and self._is_answered and self._idle_since is None:
                # A line break between requests begins none, and yet ended uvicorn's wait for the next one.
                self._expect_headers()
            self._arm()

    # What is read without the parser

    def _may_have(self, head: Head) -> bool:
        """Whether it is within the limits; what to say of those that are not, the parser's callbacks know."""
        limits = self.limits
        return head.size_bytes <= limits.max_header_bytes and len(head.headers) <= limits.max_headers

    def _begin_plain(self, head: Head, data: bytes) -> None:
        """What the parser's callbacks do from the first byte of a request to the last one of its body."""
        self._unset_keepalive_if_required()
        self._expect_nothing()
        door = self._usable_door
        if door and (refusal := door.refusal_of(head, self.client)):
            self._answer_unseen(refusal)
            return
        body = data[head.size_bytes :]
        self.scope = self._scope_of(head, body)  # type: ignore[assignment]  # uvicorn's type of it
        self.cycle = self._cycle_of(body)
        super()._start_asgi_task(self.cycle, self.app)

    def _scope_of(self, head: Head, body: bytes) -> "Scope":
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": _ASGI_HTTP},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "method": "POST",
            "path": self.root_path + head.path,
            "raw_path": self.root_path.encode() + head.raw_path,
            "query_string": b"",
            "headers": list(head.headers.items()),
            "state": self.app_state.copy(),
            "extensions": {**self._extensions(), arrival.EXTENSION: body},
        }

    def _cycle_of(self, body: bytes) -> RequestResponseCycle:
        """Uvicorn's own way to the application and back, with all of the body."""
        cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        return cycle

    # What the parser finds

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self._unparsed_bytes = self._header_bytes = self._header_count = 0
        self._expect_headers()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Headers, and trailers behind a chunked body, which count as headers."""
        self._header_count += 1
        self._count(len(name) + len(value) + _LINE_OVERHEAD_BYTES)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Checks what the parser does not: RFC 9112, 3.2."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            raise MalformedRequestError(f"A request has one header Host; this one has {hosts}.")
        self._in_headers, self._in_body = False, True
        self._joined.has_more_to_come = True
        self._expect_body()
        scope: Scope = self.scope  # type: ignore[assignment]  # uvicorn's type for the same dictionary
        scope["extensions"] = {**scope.get("extensions", {}), **self._extensions()}
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._expected, self._is_armed, self._in_body = None, False, False
        self._joined.has_more_to_come = False
        super().on_message_complete()
        if not self.pipeline:
            # Reading may have paused for a large body. Nobody waits for more of that, but for the departure.
            self.flow.resume_reading()

    # Between the parser and the application

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        """Uvicorn's own step to the application, or a refusal, after which all is as after any answer."""
        scope: Scope = cycle.scope  # type: ignore[assignment]  # uvicorn's type for the same dictionary
        door = self._usable_door if cycle.keep_alive else None
        refusal = door.refusal(scope) if door else None
        if refusal is None:
            super()._start_asgi_task(cycle, app)
            return
        cycle.response_started = cycle.response_complete = True
        self._answer_unseen(refusal)

    def _take(self, scope: "Scope", status: int, headers: whole.Headers, body: bytes) -> bool:
        """Sends a whole answer. Not where others come first, or where the connection ends with it."""
        cycle: RequestResponseCycle = self.cycle
        is_current = cycle.scope.get("extensions") is scope["extensions"]
        if not is_current or cycle.response_started or cycle.disconnected or not cycle.keep_alive:
            return False
        if self.flow.write_paused or any(name == b"connection" for name, _ in headers):
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        # Not at once: it is counted first, so whoever has an answer finds it among those that were given.
        lines = self._own_lines + _joined_lines(headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + body)
        self.on_response_complete()
        return True

    @property
    def _usable_door(self) -> Door | None:
        """What may refuse; to whoever does not read its answers none is written here, it waits inside."""
        return None if self.flow.write_paused else self.door

    def _extensions(self) -> dict[str, Any]:
        return {departure.EXTENSION: self._departure, whole.EXTENSION: self._take}

    @property
    def _own_lines(self) -> bytes:
        """The headers that every answer of the server has."""
        return _lines_of(tuple(self.server_state.default_headers))

    def _answer_unseen(self, refusal: bytes) -> None:
        """Answers what the application has not seen; uvicorn counts it and waits for the next request."""
        self._joined.write_whole(b"%b%b%b" % (_UNAVAILABLE, self._own_lines, refusal))
        self.on_response_complete()

    @property
    def _is_between_requests(self) -> bool:
        """Whether the last one, if any, has arrived and been answered, and nothing of another is here."""
        return not (self._in_headers or self._in_body) and self._is_answered

    @property
    def _is_answered(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first, whatever uvicorn says
        return cycle is None or cycle.response_complete

    # Connections that wait for their next request

    def on_response_complete(self) -> None:
        """See `HttpToolsProtocol`, which starts a timer for every answer; here a connection has one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._unset_keepalive_if_required()
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self._quiet_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_whether_idle)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _look_whether_idle(self) -> None:
        self._idle_timer = None
        if self._idle_since is None:
            return  # the next answer starts it again
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._idle_timer = self.loop.call_later(left_s, self._look_whether_idle)
        else:
            self.timeout_keep_alive_handler()

    # Deadlines

    def _expect_headers(self) -> None:
        self._expected, self._is_armed = (self.limits.header_timeout_s, self._headers_are_late), False

    def _expect_body(self) -> None:
        self._expected, self._is_armed = (
            (self.limits.body_timeout_s + BODY_GRACE_S, self._body_is_late),
            False,
        )

    def _expect_nothing(self) -> None:
        self._expected, self._is_armed = None, False
        self._arm()

    def _arm(self) -> None:
        """Starts the timer for what is expected now. Most requests arrive whole, and then there is none."""
        if self._is_armed:
            return
        self._is_armed = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._expected is not None:
            self._deadline = self.loop.call_later(*self._expected)

    def _headers_are_late(self) -> None:
        self._deadline = None
        if not self._is_answered:
            self._expect_headers()  # an earlier request on this connection is still being answered
            self._arm()
        elif self._in_headers:
            limit = self.limits.header_timeout_s
            error = HeadersTimeoutError(f"The headers did not arrive within {limit:g} s.", limit=limit)
            self._refuse(error, waited_s=limit)
        else:
            self.transport.close()

    def _body_is_late(self) -> None:
        self._deadline = None
        self._joined.has_more_to_come = False  # as far as anybody waits for it
        limit = self.limits.body_timeout_s
        if self.cycle.response_started:
            self.transport.close()
        else:
            error = BodyTimeoutError(f"The body did not arrive within {limit:g} s.", limit=limit)
            self._refuse(error, waited_s=limit + BODY_GRACE_S)

    # Refusals

    def _count(self, size_bytes: int) -> None:
        """Raises what makes the parser stop; uvicorn then calls `send_400_response`."""
        self._header_bytes += size_bytes
        if self._header_count > self.limits.max_headers:
            most = self.limits.max_headers
            self._refusal = HeadersTooLargeError(
                f"The request has more than {most} headers.", limit=most, received=self._header_count
            )
        elif self._header_bytes > self.limits.max_header_bytes:
            self._refusal = self._too_large(self._header_bytes)
        if self._refusal:
            raise self._refusal

    def _too_large(self, received: int) -> HeadersTooLargeError:
        most = self.limits.max_header_bytes
        return HeadersTooLargeError(
            f"Address and headers have more than {most:,} bytes.", limit=most, received=received
        )

    def _refuse(self, error: UploadError, waited_s: float = 0.0) -> None:
        self._refusal, self._waited_s = error, waited_s
        self.send_400_response(str(error))

    def send_400_response(self, msg: str) -> None:
        """See `HttpToolsProtocol`, which calls this when the parser stops."""
        self._expect_nothing()
        if self.transport.is_closing():
            return
        if not self._has_answer:
            error = self._refusal or MalformedRequestError("This is not HTTP/1.1 as RFC 9112 defines it.")
            status, answer = self.refusals.refuse(error, self._arriving, self._waited_s)
            self.transport.write(STATUS_LINE[status] + answer)
        self.transport.close()

    @property
    def _has_answer(self) -> bool:
        """Whether the application, or the door, was done with the request before all of it was here."""
        cycle: RequestResponseCycle | None = self.cycle  # of an earlier one while headers arrive, or none
        return cycle is not None and cycle.scope is self.scope and cycle.response_started

    @property
    def _arriving(self) -> "Scope":
        """What is known of the request that arrives now; the parser has a method once it has an address."""
        scope: Scope = self.scope  # type: ignore[assignment]  # uvicorn's type for the same dictionary
        if "path" in scope or not self.url:
            return scope
        path = _PATH.match(self.url)
        return {
            **scope,
            "method": self.parser.get_method().decode("ascii"),
            "raw_path": path[0] if path else b"",
        }


def _joined_lines(headers: whole.Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % each for each in headers])


_lines_of = lru_cache(1)(_joined_lines)  # of what every answer has, which changes once a second
