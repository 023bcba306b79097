"""The address at which a client reached this service, for the commands that it is shown."""

import re
from typing import Final

from fastapi import Request

from app.settings import Settings

SAMPLE: Final = "http://127.0.0.1:8000"  # what the samples in the description have in its place

_HOST: Final = re.compile(r"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def of(request: Request) -> str:
    """Scheme, host and port, with nothing in it that means something to a shell or a page.

    `Host` is the client's own text: where it is no name or address, this machine is named in its place.
    """
    given = request.headers.get("host", "")
    host = given if _HOST.fullmatch(given) else f"127.0.0.1:{_port(request)}"
    return f"{request.scope['scheme']}://{host}"


def _port(request: Request) -> int:
    """The one that the connection came to; a socket in the file system has none."""
    settings: Settings = request.app.state.settings
    _, port = request.scope.get("server") or ("", None)
    return port or settings.port
