"""How the server tells at once that a caller has left; to listen for that would take a task per request.

A client that sends its next request before it has the answer is not seen leaving, since the server reads no
further until it has answered.
"""

from collections.abc import Callable
from typing import Any, Final

from starlette.types import Scope

EXTENSION: Final = "classifier.departure"


class Departure:
    """Of one connection: whom to tell when it ends."""

    def __init__(self) -> None:
        self._waiting: set[Callable[[], object]] = set()
        self._has_happened = False

    def watch(self, leave: Callable[[], object]) -> None:
        """Calls `leave` when the connection ends, and at once if it has."""
        if self._has_happened:
            leave()
        else:
            self._waiting.add(leave)

    def forget(self, leave: Callable[[], object]) -> None:
        self._waiting.discard(leave)

    def happen(self) -> None:
        """Nobody is there any more."""
        self._has_happened = True
        for leave in tuple(self._waiting):
            leave()


def of(scope: Scope) -> Departure | None:
    """That of the connection which a request came by, None where the server tells nothing."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    return extensions.get(EXTENSION)
