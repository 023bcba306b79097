"""One picture out of a request: as a form's field `file`, or as the body itself."""

import asyncio
from typing import Final

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import ClientDisconnect, Request

from app.errors import (
    BodyTimeoutError,
    EmptyFileError,
    MalformedBodyError,
    MediaTypeError,
    MissingFileError,
    SeveralFilesError,
    UploadError,
)

FIELD: Final = "file"
FORM: Final = "multipart/form-data"
BYTES: Final = "application/octet-stream"
HOW: Final = "Send it as a form: curl -F file=@cat.jpg URL"


class _InMemoryParser(MultiPartParser):
    spool_max_size = 0  # never to disk: `BodyLimit` bounds what is kept


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
    form = _InMemoryParser(
        request.headers, request.stream(), max_files=16, max_fields=16, max_part_size=64 * 1024
    )
    try:
        items = (await form.parse()).multi_items()
    except (UploadError, ClientDisconnect):
        raise
    except Exception as error:
        raise MalformedBodyError(
            "The body is not the multipart form that its content type announces, or has too many parts. Let "
            f"your HTTP library write the body and the Content-Type header. {HOW}"
        ) from error
    return await _only_file(items)


async def _only_file(items: list[tuple[str, UploadFile | str]]) -> bytes:
    files = [item for _, item in items if isinstance(item, UploadFile)]
    named = [item for name, item in items if name == FIELD]
    if len(files) > 1:
        raise SeveralFilesError(f"The form has {len(files)} files; send one request per picture.")
    if not named:
        raise MissingFileError(f"The form has no field {FIELD!r}, or ends before it is complete. {HOW}")
    if not isinstance(named[0], UploadFile):
        raise MissingFileError(f"The field {FIELD!r} holds text, not a file; mind the @. {HOW}")
    return await named[0].read()
