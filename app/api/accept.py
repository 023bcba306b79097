"""Which form of an answer a client would rather have."""

import re
from typing import Final

from starlette.requests import Request

_QUALITY: Final = re.compile(r"\s*q=([01](?:\.[0-9]{0,3})?)\s*")
_NONE: Final = -1.0


def prefers_html(request: Request) -> bool:
    """Whether the header `Accept` puts HTML before JSON, as browsers do; RFC 9110, 12.5.1."""
    given = request.headers.get("accept", "*/*")
    wanted = dict(map(_parsed, given.split(",")))
    return wanted.get("text/html", _NONE) > _best(wanted, "application/json", "application/*", "*/*")


def _best(wanted: dict[str, float], *ranges: str) -> float:
    """The weight of the most specific range that is named."""
    return next((wanted[each] for each in ranges if each in wanted), 0.0)


def _parsed(entry: str) -> tuple[str, float]:
    kind, *options = entry.lower().split(";")
    weights = [float(found[1]) for option in options if (found := _QUALITY.fullmatch(option))]
    return kind.strip(), weights[0] if weights else 1.0
