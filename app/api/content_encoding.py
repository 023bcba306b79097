"""gzip and deflate, in both directions: of a request's body within a limit, of an answer's if asked for."""

import re
import zlib
from collections.abc import Iterator
from typing import Final

from fastapi import Response

from app.errors import BodyTooLargeError, MalformedBodyError, MediaTypeError

_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_QUICK_LEVEL: Final = 1
_WORTHWHILE_BYTES: Final = 1024
_OFFER: Final = re.compile(r"\s*([\w*-]+)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?")


def decode(data: bytes, encoding: str, max_bytes: int) -> bytes:
    """What was compressed into `data`, given the Content-Encoding header; never more than `max_bytes`.

    Raises:
        MediaTypeError: an encoding other than gzip, deflate and identity.
        BodyTooLargeError: it expands to more.
        MalformedBodyError: it is not in the encoding, ends early, or something follows it.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return data
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise MediaTypeError(
            f"The Content-Encoding {encoding[:40]!a} is not understood here; use gzip, deflate or none."
        )
    stream = zlib.decompressobj(_window(data, encoding))
    try:
        plain = stream.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise MalformedBodyError(f"The body is not {encoding}, as its Content-Encoding says.") from error
    if len(plain) > max_bytes:
        raise BodyTooLargeError(f"The body may have at most {max_bytes:,} bytes; it expands to more.")
    if not stream.eof or stream.unused_data:
        raise MalformedBodyError(f"The {encoding} body ends early, or something follows it.")
    return plain


def compress(response: Response, accepted: str) -> Response:
    """The same response, compressed if the Accept-Encoding header asks for that and it is long enough."""
    response.headers["Vary"] = "Accept-Encoding"
    encoding = _preferred(accepted)
    if encoding and len(response.body) >= _WORTHWHILE_BYTES:
        window = _GZIP_WINDOW if encoding == "gzip" else zlib.MAX_WBITS
        response.body = zlib.compress(bytes(response.body), _QUICK_LEVEL, wbits=window)
        response.headers["Content-Encoding"] = encoding
        response.headers["Content-Length"] = str(len(response.body))
    return response


def _window(data: bytes, encoding: str) -> int:
    """Senders disagree on whether "deflate" has zlib's two bytes in front, so these are looked for."""
    if encoding != "deflate":
        return _GZIP_WINDOW
    has_header = len(data) > 1 and data[0] & 15 == zlib.DEFLATED and not int.from_bytes(data[:2], "big") % 31
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


def _preferred(accepted: str) -> str | None:
    weights = dict(_offers(accepted))
    wanted = {name: weights.get(name, weights.get("*", 0.0)) for name in ("gzip", "deflate")}
    best = max(wanted, key=lambda name: wanted[name])
    return best if wanted[best] > 0 else None


def _offers(accepted: str) -> Iterator[tuple[str, float]]:
    for item in accepted.lower().split(","):
        if offer := _OFFER.fullmatch(item):
            yield offer[1], float(offer[2] or 1)
