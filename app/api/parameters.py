"""Query parameters whose range depends on the model that answers."""

from typing import Any, Final

from fastapi import Request

from app.errors import ParameterError
from app.geometry import DEFAULT_FIT, FITS, Fit

TOP_K: Final[dict[str, Any]] = {
    "name": "top_k",
    "in": "query",
    "required": False,
    "description": "Adds `top`: this many of the most probable classes, sorted; 1 to the number of classes.",
    "schema": {"type": "integer", "minimum": 1},
}
FIT: Final[dict[str, Any]] = {
    "name": "fit",
    "in": "query",
    "required": False,
    "description": "What becomes of a picture of another shape: squash uses all of it and changes its "
    "proportions, crop keeps them and uses the middle.",
    "schema": {"type": "string", "enum": list(FITS), "default": DEFAULT_FIT},
}
_LONGEST_NUMBER: Final = 12


def top_k(request: Request, classes: int) -> int | None:
    """How many of the `classes` the caller wants sorted; None if that was not asked for.

    Raises:
        ParameterError: not a whole number from 1 to `classes`.
    """
    given = request.query_params.get("top_k")
    if given is None:
        return None
    is_number = given.isascii() and given.removeprefix("-").isdecimal() and len(given) <= _LONGEST_NUMBER
    if is_number and 1 <= int(given) <= classes:
        return int(given)
    # Words are not repeated: they can be long, secret, or meant for somebody else's screen.
    received = given if is_number else "something else"
    raise ParameterError(f"top_k must be a whole number from 1 to {classes}; {received} was received.")


def fit(request: Request) -> Fit:
    """What becomes of a picture whose shape is not the model's.

    Raises:
        ParameterError: not one of `FITS`.
    """
    given = request.query_params.get("fit", DEFAULT_FIT)
    for known in FITS:
        if given == known:
            return known
    raise ParameterError(f"fit must be {' or '.join(FITS)}; something else was received.")
