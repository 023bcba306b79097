"""How long bodies may be, told before they are read: the framework reads first."""

from collections.abc import Mapping
from typing import Final

from starlette.types import Scope

from app.api.headers import header
from app.errors import BodyTooLargeError

SOON_READ_BYTES: Final = 64 * 1024  # what a socket's buffer takes anyway
_LONGEST_NUMBER: Final = 18
_UNBOUNDED: Final = (b"transfer-encoding", b"expect")


class BodyLimits:
    """At most `max_bytes`, or what `exceptions` says of a path; with `/` at its end, of all below."""

    def __init__(self, max_bytes: int, exceptions: Mapping[str, int] | None = None) -> None:
        self._max_bytes = max_bytes
        self._exceptions = exceptions or {}
        self._below = tuple(path for path in self._exceptions if path.endswith("/"))

    def of(self, path: str) -> int:
        """In bytes."""
        if path.startswith(self._below):
            path = next(above for above in self._below if path.startswith(above))
        return self._exceptions.get(path, self._max_bytes)

    def check_announced(self, scope: Scope) -> None:
        """Refuses what says itself that it is too long.

        Raises:
            BodyTooLargeError: it is.
        """
        announced, max_bytes = announced_bytes(scope), self.of(scope["path"])
        if announced > max_bytes:
            raise too_large(max_bytes, f"{announced} bytes were announced", announced)


def announced_bytes(scope: Scope) -> int:
    """How long a request says its body is, 0 where it does not; a number too long to be one is 10**18."""
    text = header(scope, b"content-length") or ""
    if not (text.isascii() and text.isdecimal()):
        return 0
    return int(text) if len(text) <= _LONGEST_NUMBER else 10**_LONGEST_NUMBER


def is_soon_read(scope: Scope) -> bool:
    """Whether to read over the body costs less than the next connection, which its client would open."""
    length = b"0"
    for name, value in scope["headers"]:
        if name in _UNBOUNDED:
            return False
        if name == b"content-length":
            length = value
    return length.isdigit() and len(length) <= _LONGEST_NUMBER and int(length) <= SOON_READ_BYTES


def too_large(max_bytes: int, what: str, received: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"The body may have at most {max_bytes:,} bytes; {what}.", limit=max_bytes, received=received
    )
