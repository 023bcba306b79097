"""Query parameters of the routes that classify; what some may be depends on the model that answers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from fastapi import Request

from app.errors import ParameterError
from app.geometry import DEFAULT_FIT, FITS, Fit
from app.manifest import Manifest
from app.settings import Settings

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
COVERAGE: Final[dict[str, Any]] = {
    "name": "coverage",
    "in": "query",
    "required": False,
    "description": "How often `confidence_set` shall hold the truth: one that the version was calibrated "
    "for, as a rule 0.9, 0.95 or 0.99.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
}
INPUT: Final[dict[str, Any]] = {
    "name": "input",
    "in": "query",
    "required": False,
    "description": "`true` adds `input`: the pixels that the network saw, as a PNG file.",
    "schema": {"type": "boolean", "default": False},
}
LABEL: Final[dict[str, Any]] = {
    "name": "label",
    "in": "query",
    "required": False,
    "description": "The class to explain; the most probable one unless it is given.",
    "schema": {"type": "string"},
}
ALL: Final = (TOP_K, FIT, COVERAGE, INPUT)

_LONGEST_NUMBER: Final = 12
_SHOWN_CLASSES: Final = 20
_SHARE: Final = re.compile(r"0?\.[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks of the answer to each picture."""

    fit: Fit
    coverage: float
    top_k: int | None
    with_input: bool

    @classmethod
    def of(cls, request: Request, manifest: Manifest, settings: Settings) -> Self:
        """What the query says, and what the settings say where it is silent.

        Raises:
            ParameterError: a parameter holds what it cannot.
        """
        if not request.scope["query_string"]:
            return cls(DEFAULT_FIT, settings.coverage, top_k=None, with_input=False)
        return cls(
            fit=fit(request),
            coverage=coverage(request, manifest, settings.coverage),
            top_k=top_k(request, len(manifest.class_names)),
            with_input=flag(request, "input"),
        )


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


def coverage(request: Request, manifest: Manifest, default: float) -> float:
    """How often the confidence set shall hold the truth, 0 to 1.

    Raises:
        ParameterError: the version was not calibrated for what is asked for.
    """
    given = request.query_params.get("coverage")
    if given is None:
        return default
    known = [each.coverage for each in manifest.calibration.conformal_thresholds]
    if _SHARE.fullmatch(given) and float(given) in known:
        return float(given)
    received = given if _SHARE.fullmatch(given) else "something else"
    if not known:
        raise ParameterError(
            f"coverage is not there to choose: {manifest.name} version {manifest.version} was published "
            f"without thresholds for confidence sets; {received} was received. Leave it out."
        )
    allowed = ", ".join(f"{each:g}" for each in sorted(known))
    raise ParameterError(
        f"coverage must be one of {allowed}, which {manifest.name} version {manifest.version} was calibrated "
        f"for; {received} was received."
    )


def flag(request: Request, name: str) -> bool:
    """Whether something is wanted; it is not where the query is silent.

    Raises:
        ParameterError: neither true nor false.
    """
    given = request.query_params.get(name, "false").lower()
    if given not in ("true", "false"):
        raise ParameterError(f"{name} must be true or false; something else was received.")
    return given == "true"


def label(request: Request, class_names: Sequence[str]) -> int | None:
    """The id of the class that is asked about; None if none is.

    Raises:
        ParameterError: the model does not know it.
    """
    given = request.query_params.get("label")
    if given is None:
        return None
    if given not in class_names:
        raise ParameterError(f"label must be one of {classes(class_names)}; something else was received.")
    return class_names.index(given)


def classes(class_names: Sequence[str]) -> str:
    """All of them in words, or the first and how many there are more."""
    more = len(class_names) - _SHOWN_CLASSES
    return ", ".join(class_names[:_SHOWN_CLASSES]) + (f" and {more} more" if more > 0 else "")
