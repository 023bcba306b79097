"""One header of a request; the framework's own mapping decodes all of them for each that is looked up."""

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str | None:
    """The first value under this name, which is in lower case; None if there is none."""
    for each, value in scope["headers"]:
        if each == name:
            found: str = value.decode("latin-1")
            return found
    return None
