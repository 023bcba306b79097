"""What surrounds a call over gRPC as middleware does a request over HTTP: admission, body, time, errors."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import grpc

from app.api import body, problems, protobuf, request_id
from app.api.admission import Gate
from app.api.deadline import too_late
from app.api.grpc_message import Messages
from app.api.observation import Observed
from app.errors import OverloadedError, ServiceError, UnavailableError
from app.metrics import Metrics
from app.settings import Settings

METHOD: Final = "gRPC"  # where HTTP has GET and POST, in metrics and log

_LOG: Final = logging.getLogger(__name__)
_RETRY_AFTER: Final = "grpc-retry-pushback-ms"  # clients that retry obey it: gRPC proposal A6
_LEAST_S: Final = 1.0  # as in Retry-After, which has whole seconds

_CODES: Final[Mapping[int, grpc.StatusCode]] = {
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.CONFLICT: grpc.StatusCode.ABORTED,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
    HTTPStatus.NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, slots=True)
class Method:
    """`path` is its full name; `quiet` ones are probes, which the log leaves out while they succeed.

    `admits` is asked before the message is read, if it is one that classifies, and `answer` after that; both
    get the seconds that are left for the answer.
    """

    path: str
    request: Any
    answer: Callable[[Any, float], Awaitable[Any]]
    admits: Callable[[float], None] | None = None
    quiet: bool = False


class Calls:
    """Answers calls, whatever method is called."""

    def __init__(self, settings: Settings, metrics: Metrics, gate: Gate) -> None:
        self.settings = settings
        self.metrics = metrics
        self.gate = gate
        self.names = request_id.Names()
        self._messages = Messages(settings)

    def handler(self, method: Method) -> Any:
        """For `grpc.method_handlers_generic_handler`.

        As if the one message were a stream, since the library reads a message before it passes a call on, and
        a service that is full refuses before that.
        """
        return grpc.stream_unary_rpc_method_handler(partial(self._call, method))

    async def _call(self, method: Method, messages: AsyncGenerator[bytes], context: Any) -> bytes:
        seen, name = Observed(), self.names.of(_metadata(context, request_id.HEADER.lower()))
        context.set_trailing_metadata(_trailing(name))
        try:
            reply = await self._answer(method, messages, context, seen)
            seen.status = HTTPStatus.OK
            return reply
        except asyncio.CancelledError:
            seen.status, seen.code = _gone(context)
            raise
        except ServiceError as error:
            return await _refuse(error, name, context, seen)
        except Exception:  # noqa: BLE001  # logged here, and nothing of it is for strangers
            _LOG.exception("The call %s failed.", name)
            return await _refuse(problems.fault(), name, context, seen)
        finally:
            seen.count(self.metrics, method.path, METHOD, classifies=method.admits is not None)
            seen.log(METHOD, method.path, _client(context.peer()), name, quiet=method.quiet)

    async def _answer(
        self, method: Method, messages: AsyncGenerator[bytes], context: Any, seen: Observed
    ) -> bytes:
        allowed_s = _allowed_s(context.time_remaining(), self.settings.request_timeout_s)
        with self._admitted(method, allowed_s), self.gate.receiving() as arrived:
            data = await self._messages.read(
                messages, self.settings.body_timeout_s, is_large=method.admits is not None
            )
            arrived(len(data))
            seen.read(len(data))
            allowed_s = _allowed_s(context.time_remaining(), self.settings.request_timeout_s)
            async with _in_time(allowed_s):
                parse = partial(protobuf.parse, data, method.request, self.settings.queue_pictures)
                answer = await method.answer(await body.beside(parse, len(data)), allowed_s)
        reply: bytes = answer.SerializeToString()
        return reply

    @contextmanager
    def _admitted(self, method: Method, allowed_s: float) -> Iterator[None]:
        if method.admits is None:
            yield
            return
        method.admits(allowed_s)
        with self.gate.counted():
            yield


def _allowed_s(remaining_s: float | None, most_s: float) -> float:
    """Until the caller's deadline, if there is one, and at most so long."""
    return most_s if remaining_s is None else min(remaining_s, most_s)


@asynccontextmanager
async def _in_time(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise too_late(seconds) from error


async def _refuse(error: ServiceError, name: str, context: Any, seen: Observed) -> bytes:
    seen.status, seen.code = problems.status_of(error), error.code
    if isinstance(error, OverloadedError):
        seen.overload = error.reason
    if isinstance(error, UnavailableError):
        context.set_trailing_metadata(_trailing(name, retry_after_s=error.retry_after_s))
    await context.abort(_CODES.get(seen.status, grpc.StatusCode.INVALID_ARGUMENT), str(error))
    raise AssertionError("abort raises")


def _trailing(name: str, retry_after_s: float | None = None) -> tuple[tuple[str, str], ...]:
    known = ((request_id.HEADER.lower(), name),)
    if retry_after_s is None:
        return known
    return *known, (_RETRY_AFTER, str(round(1000 * max(_LEAST_S, retry_after_s))))


def _metadata(context: Any, wanted: str) -> str:
    return next((str(value) for key, value in context.invocation_metadata() if key == wanted), "")


def _gone(context: Any) -> tuple[int, str]:
    """Status and code of a call that nobody waits for any more: its deadline has passed, or it was left."""
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s <= 0:
        error = too_late(0)
        return problems.status_of(error), error.code
    return problems.CLIENT_LEFT_STATUS, problems.CLIENT_LEFT


def _client(peer: str) -> str:
    """The address in `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
