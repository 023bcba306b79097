"""Pictures out of a request: one as a form's field `file` or as the body itself, several in one form."""

from collections.abc import Awaitable
from typing import Final, TypeVar

from starlette.requests import Request

from app.api import arrival
from app.api.form import DEFAULT_MAX_PARTS, Part, only_file, read_form
from app.api.headers import header
from app.api.patience import patience
from app.errors import (
    BodyTimeoutError,
    EmptyFileError,
    MediaTypeError,
    MissingFileError,
    SeveralFilesError,
    TooManyFilesError,
)

_T = TypeVar("_T")

FIELD: Final = "file"
FORM: Final = "multipart/form-data"
BYTES: Final = "application/octet-stream"
_IMAGE: Final = "image/"
HOW: Final = "Send it as a form: curl -F file=@cat.jpg URL"
ONE_BY_ONE: Final = (
    "Send one request per picture, or all to /predict/batch: curl -F file=@1.jpg -F file=@2.jpg "
    "URL/predict/batch"
)
HOW_SEVERAL: Final = (
    "Send one form with every file in a field of its own: curl -F file=@1.jpg -F file=@2.jpg URL"
)

# Up to this many times the limit they are counted, so that the refusal can say how many there were.
_COUNTED: Final = 10


async def read_pictures(request: Request, timeout_s: float, max_files: int) -> list[bytes]:
    """The contents of the files in a form's fields `file`, in order, at least one; each may be empty.

    Raises:
        UploadError: it carries none, too many, or something else; or it did not arrive in time.
    """
    if _kind(request) != FORM:
        raise MediaTypeError(f"Several pictures come as {FORM}. {HOW_SEVERAL}")
    max_parts = DEFAULT_MAX_PARTS + _COUNTED * max_files
    form = read_form(header(request.scope, b"content-type") or "", request.stream(), max_parts)
    parts = await _in_time(form, timeout_s)
    return _files(parts, max_files)


def _files(parts: list[Part], max_files: int) -> list[bytes]:
    files = [part for part in parts if part.name == FIELD.encode()]
    stray = sum(part.is_file for part in parts) - sum(part.is_file for part in files)
    if not all(part.is_file for part in files):
        raise MissingFileError(f"A field {FIELD!r} holds text, not a file; mind the @. {HOW_SEVERAL}")
    if stray or not files:
        raise MissingFileError(
            f"The form has {len(files)} files in fields called {FIELD!r} and {stray} in others; every file "
            f"belongs in a field called {FIELD!r}. {HOW_SEVERAL}"
        )
    if len(files) > max_files:
        raise TooManyFilesError(
            f"The form has {len(files)} files; at most {max_files} are taken. Send several requests.",
            limit=max_files,
            received=len(files),
        )
    return [bytes(part.data) for part in files]


async def read_picture(request: Request, timeout_s: float) -> bytes:
    """The encoded picture that a request carries, never empty.

    Raises:
        UploadError: it carries none, several, or something else; or it did not arrive in time.
    """
    data = _here(request)
    if data is None:
        data = await _in_time(_data(request, _kind(request)), timeout_s)
    if not data:
        raise EmptyFileError(f"The file has no bytes. {HOW}")
    return data


def _here(request: Request) -> bytes | None:
    """The picture, if the request arrived whole and is as nearly all are; None says nothing about it."""
    body = arrival.whole_body(request.scope)
    if body is None:
        return None
    content_type = header(request.scope, b"content-type") or ""
    if content_type == BYTES or content_type.startswith(_IMAGE):
        return body
    part = only_file(content_type, body)
    return bytes(part.data) if part and part.name == FIELD.encode() else None


def _kind(request: Request) -> str:
    return (header(request.scope, b"content-type") or "").partition(";")[0].strip().lower()


async def _in_time(reading: Awaitable[_T], timeout_s: float) -> _T:
    try:
        with patience(timeout_s):
            return await reading
    except TimeoutError as error:
        raise BodyTimeoutError(f"The body did not arrive within {timeout_s:g} s.", limit=timeout_s) from error


async def _data(request: Request, kind: str) -> bytes:
    if kind == FORM:
        return await _from_form(request)
    if kind.startswith(_IMAGE) or kind == BYTES:
        return await request.body()
    if (
        not kind
        and request.headers.get("content-length", "0") == "0"
        and "transfer-encoding" not in request.headers
    ):
        raise MissingFileError(f"The request has no body. {HOW}")
    raise MediaTypeError(
        f"A picture comes as {FORM}, or as the body itself with the content type image/* or {BYTES}. {HOW}, "
        f"or as the body: curl --data-binary @cat.jpg -H 'Content-Type: {BYTES}' URL"
    )


async def _from_form(request: Request) -> bytes:
    parts = await read_form(header(request.scope, b"content-type") or "", request.stream())
    files = [part for part in parts if part.is_file]
    if len(files) > 1:
        raise SeveralFilesError(
            f"The form has {len(files)} files. {ONE_BY_ONE}", limit=1, received=len(files)
        )
    for part in parts:
        if part.name == FIELD.encode():
            if not part.is_file:
                raise MissingFileError(f"The field {FIELD!r} holds text, not a file; mind the @. {HOW}")
            return bytes(part.data)
    raise MissingFileError(f"The form has no field {FIELD!r}. {HOW}")
