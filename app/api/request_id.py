"""One name for a request in the answer, in errors and in logs."""

import re
import secrets
from collections.abc import Iterator
from typing import Final

from starlette.types import Scope

from app.api.headers import header

HEADER: Final = "X-Request-ID"
NAME: Final = HEADER.lower().encode()
_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_DIGITS: Final = 32
_AT_ONCE: Final = 256  # asking the system for randomness takes longer than all else that is done here


class Names:
    """Names for requests: their callers', if these are plain words, new ones otherwise."""

    def __init__(self) -> None:
        self._made = _made()

    def of(self, given: str) -> str:
        return given if _ACCEPTABLE.fullmatch(given) else next(self._made)

    def new(self) -> str:
        """One for a request that has none."""
        return next(self._made)


def _made() -> Iterator[str]:
    while True:
        digits = secrets.token_hex(_AT_ONCE * _DIGITS // 2)
        yield from (digits[start : start + _DIGITS] for start in range(0, len(digits), _DIGITS))


def given(scope: Scope) -> str:
    """What the caller calls the request; empty if it has no name for it."""
    return header(scope, NAME) or ""
