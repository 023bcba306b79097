"""Errors as clients see them, from one table: problem details after RFC 9457, or what their protocol says."""

import json
import logging
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import errors
from app.errors import OverloadedError, ServiceError, UnauthorizedError, UnavailableError

_LOG: Final = logging.getLogger(__name__)
MEDIA_TYPE: Final = "application/problem+json"

# TensorFlow Serving and Open Inference Protocol have one form for every error, and their clients look for it.
_ERROR_MEMBER: Final = re.compile(r"/v[12](/|$)", re.IGNORECASE)

# The nearest class on an error's line of descent decides.
STATUS: Final[Mapping[type[ServiceError], HTTPStatus]] = {
    errors.ServiceError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.PictureError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnsupportedFormatError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.PictureTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UploadError: HTTPStatus.BAD_REQUEST,
    errors.MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.TooManyFilesError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.BodyTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    errors.HeadersTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    errors.HeadersTooLargeError: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ProtocolError: HTTPStatus.BAD_REQUEST,
    errors.UnknownModelError: HTTPStatus.NOT_FOUND,
    errors.UnsupportedOperationError: HTTPStatus.NOT_IMPLEMENTED,
    errors.LabelNotFoundError: HTTPStatus.NOT_FOUND,
    errors.ManagementError: HTTPStatus.CONFLICT,
    errors.UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    errors.FeedbackError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.FeedbackOffError: HTTPStatus.NOT_IMPLEMENTED,
    errors.UnknownPredictionError: HTTPStatus.NOT_FOUND,
    errors.UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineError: HTTPStatus.GATEWAY_TIMEOUT,
}
_REQUEST_ID_EXAMPLE: Final = "6f1c2a9be2d84f7d9a55c4d0a7a1e3b2"
CLIENT_LEFT: Final = "client_disconnected"
CLIENT_LEFT_STATUS: Final = 499
# After these the rest of the body is not worth reading.
_CLOSING: Final = (errors.BodyTooLargeError, errors.BodyTimeoutError)


def _is_none(value: object) -> bool:
    return value is None


class Problem(BaseModel):
    """What went wrong, after RFC 9457."""

    type: Annotated[str, Field(description="where the documentation explains it")]
    title: Annotated[str, Field(description="the kind of problem, in words")]
    status: Annotated[int, Field(description="the HTTP status")]
    detail: Annotated[str, Field(description="what was received, what is allowed and what to do")]
    instance: Annotated[str, Field(description="the request id, as in the X-Request-ID header")]
    code: Annotated[str, Field(description="the kind of problem, for programs; never changes")]
    limit: Annotated[
        float | int | None, Field(description="the limit that was passed", exclude_if=_is_none)
    ] = None
    received: Annotated[
        float | int | None, Field(description="what came instead, as far as it is known", exclude_if=_is_none)
    ] = None


def status_of(error: ServiceError) -> HTTPStatus:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def describe(
    code: str, status: HTTPStatus, detail: str, request_id: str, **extensions: float | None
) -> Problem:
    return Problem(
        type=f"/docs#{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        instance=request_id,
        code=code,
        **extensions,
    )


def of(error: ServiceError, request_id: str) -> Problem:
    """The problem that one of our errors is to clients."""
    return describe(error.code, status_of(error), str(error), request_id, **_extensions(error))


def fault() -> ServiceError:
    """What a client is told of an exception that is not ours: nothing of what it says."""
    return ServiceError("The service made a mistake; its log has more under the request id.")


def bare(error: ServiceError, request_id: str) -> tuple[int, bytes]:
    """Status and body of the answer to a request that is too broken to have a path."""
    problem = of(error, request_id)
    return problem.status, problem.model_dump_json().encode()


def response(error: ServiceError, request: Request) -> Response:
    """The answer to a request that failed with one of our errors."""
    status = status_of(error)
    headers = {}
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(max(1, ceil(error.retry_after_s)))
    if isinstance(error, OverloadedError):
        request.state.overload = error.reason
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, _CLOSING):
        headers["Connection"] = "close"
    return _rendered(request, error.code, status, str(error), headers, **_extensions(error))


def to_nobody(request: Request) -> Response:
    """The answer when the client has left; the status is what proxies write into their logs for this."""
    request.state.problem_code = CLIENT_LEFT
    return Response(status_code=CLIENT_LEFT_STATUS)


def documented(*examples: ServiceError) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses, made by the code that makes the real ones; several examples may share a status."""
    found: dict[int | str, dict[str, Any]] = {}
    for error in examples:
        status = status_of(error)
        entry = found.setdefault(
            int(status),
            {
                "description": status.phrase,
                "content": {MEDIA_TYPE: {"schema": _schema(), "examples": {}}},
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][error.code] = {
            "value": of(error, _REQUEST_ID_EXAMPLE).model_dump()
        }
    return found


@cache
def _schema() -> dict[str, Any]:
    """Made once: a hundred times took 70 ms of every start."""
    return Problem.model_json_schema()


def everywhere() -> list[Problem]:
    """Examples of what any request may get, whatever its route is, if it has one."""
    raised = (
        errors.HeadersTooLargeError("The request has more than 100 headers.", limit=100, received=101),
        errors.HeadersTimeoutError("The headers did not arrive within 10 s.", limit=10.0),
        errors.MalformedRequestError("This is not HTTP/1.1 as RFC 9112 defines it."),
        fault(),
    )
    unrouted = [
        describe(_code(status), status, _detail(status, {"Allow": "POST"}), _REQUEST_ID_EXAMPLE)
        for status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
    ]
    return [*unrouted, *(of(error, _REQUEST_ID_EXAMPLE) for error in raised)]


def no_memory(error: MemoryError) -> ServiceError:
    """What a client is told, which may well come back; the log has where there was none."""
    _LOG.error("A request found no memory.", exc_info=error)
    return errors.OverloadedError("There is no memory for this request now.", reason="memory")


def install(app: FastAPI) -> None:
    """Makes every failure of `app` a problem, the framework's own included."""
    app.exception_handler(ServiceError)(_on_service_error)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(RequestValidationError)(_on_invalid_request)
    app.exception_handler(ClientDisconnect)(_on_disconnect)
    app.exception_handler(MemoryError)(_on_no_memory)
    app.exception_handler(Exception)(_on_fault)


def request_id_of(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


async def _on_service_error(request: Request, error: ServiceError) -> Response:
    return response(error, request)


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    status, headers = HTTPStatus(error.status_code), dict(error.headers or {})
    return _rendered(request, _code(status), status, _detail(status, headers), headers)


def _code(status: HTTPStatus) -> str:
    return status.phrase.lower().replace(" ", "_").replace("-", "_")


def _detail(status: HTTPStatus, headers: Mapping[str, str]) -> str:
    match status:
        case HTTPStatus.NOT_FOUND:
            return "Nothing is served at this path; /docs lists what is."
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"This path takes {headers.get('Allow', 'other methods')} only."
        case _:
            return f"{status.description or status.phrase}."


async def _on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    """Says where and what, but never repeats the value: it can be huge, secret, or no JSON at all."""
    wrong = error.errors()[0]
    where = ".".join(str(part) for part in wrong["loc"][:3])
    invalid = errors.UploadError(f"The request is not valid at {where}: {wrong['type'].replace('_', ' ')}.")
    return response(invalid, request)


async def _on_disconnect(request: Request, _error: Exception) -> Response:
    return to_nobody(request)


async def _on_no_memory(request: Request, error: MemoryError) -> Response:
    return response(no_memory(error), request)


async def _on_fault(request: Request, _error: Exception) -> Response:
    return response(fault(), request)


def _extensions(error: ServiceError) -> dict[str, float | None]:
    return {"limit": error.limit, "received": error.received}


def _rendered(
    request: Request,
    code: str,
    status: HTTPStatus,
    detail: str,
    headers: Mapping[str, str],
    **extensions: float | None,
) -> Response:
    request.state.problem_code = code  # for what counts and logs requests
    if _ERROR_MEMBER.match(request.scope["path"]):
        body, kind = json.dumps({"error": detail}), "application/json"
    else:
        problem = describe(code, status, detail, request_id_of(request), **extensions)
        body, kind = problem.model_dump_json(), MEDIA_TYPE
    return Response(body, status, headers, kind)
