"""One header of a request; the framework's own mapping decodes all of them for each that is looked up."""

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str | None:
    """The first value under this name, which is in lower case; None if there is none."""
    found = raw_header(scope, name)
    return None if found is None else found.decode("latin-1")


def raw_header(scope: Scope, name: bytes) -> bytes | None:
    """The same as it came."""
    for each, value in scope["headers"]:
        if each == name:
            found: bytes = value
            return found
    return None
