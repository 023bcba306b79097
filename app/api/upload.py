"""One picture out of a request: as a form's field `file`, or as the body itself."""

import asyncio
from typing import Final

from starlette.requests import Request

from app.api.form import read_form
from app.errors import (
    BodyTimeoutError,
    EmptyFileError,
    MediaTypeError,
    MissingFileError,
    SeveralFilesError,
)

FIELD: Final = "file"
FORM: Final = "multipart/form-data"
BYTES: Final = "application/octet-stream"
HOW: Final = "Send it as a form: curl -F file=@cat.jpg URL"


async def read_picture(request: Request, timeout_s: float) -> bytes:
    """The encoded picture that a request carries, never empty.

    Raises:
        UploadError: it carries none, several, or something else; or it did not arrive in time.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(timeout_s):
            data = await _data(request, kind)
    except TimeoutError as error:
        raise BodyTimeoutError(f"The body did not arrive within {timeout_s:g} s.") from error
    if not data:
        raise EmptyFileError(f"The file has no bytes. {HOW}")
    return data


async def _data(request: Request, kind: str) -> bytes:
    if kind == FORM:
        return await _from_form(request)
    if kind.startswith("image/") or kind == BYTES:
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
    parts = await read_form(request.headers["content-type"], request.stream())
    files = [part for part in parts if part.is_file]
    if len(files) > 1:
        raise SeveralFilesError(f"The form has {len(files)} files; send one request per picture.")
    for part in parts:
        if part.name == FIELD.encode():
            if not part.is_file:
                raise MissingFileError(f"The field {FIELD!r} holds text, not a file; mind the @. {HOW}")
            return bytes(part.data)
    raise MissingFileError(f"The form has no field {FIELD!r}. {HOW}")
