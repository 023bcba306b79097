"""Query parameters whose range depends on the model that answers."""

from typing import Any, Final

from fastapi import Request

from app.errors import ParameterError

TOP_K: Final[dict[str, Any]] = {
    "name": "top_k",
    "in": "query",
    "required": False,
    "description": "Adds `top`: this many of the most probable classes, sorted; 1 to the number of classes.",
    "schema": {"type": "integer", "minimum": 1},
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
