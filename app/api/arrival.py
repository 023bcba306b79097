"""Bodies that were here as soon as their heads were, by an extension of ASGI of our own.

To ask for the messages of a body, and to wait with patience for what may never come, takes a small request
longer than to read the form that it is.
"""

from typing import Any, Final

from starlette.types import Scope

EXTENSION: Final = "classifier.body"


def whole_body(scope: Scope) -> bytes | None:
    """All of the body; None where the server does not say that it has it. It can be received as well."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    return extensions.get(EXTENSION)
