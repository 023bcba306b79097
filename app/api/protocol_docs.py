"""OpenAPI for protocols that others wrote: what is read and answered, by examples that the tests send."""

from collections.abc import Mapping
from typing import Any, Final

from app.api import problems
from app.errors import ServiceError

JSON: Final = "application/json"
ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "what is wrong, in words"}},
}
_OBJECT: Final = {"type": "object"}


def answers(examples: Mapping[str, Any], *errors: ServiceError) -> dict[int | str, dict[str, Any]]:
    """The responses of an operation: examples of the good one by name, and every error that it may give."""
    shown = {name: {"value": value} for name, value in examples.items()}
    is_list = any(isinstance(value, list) for value in examples.values())
    schema = {"type": "array", "items": _OBJECT} if is_list else _OBJECT
    good = {"description": "OK", "content": {JSON: {"schema": schema, "examples": shown}}}
    return {200: good, **refusals(*errors)}


def refusals(*errors: ServiceError) -> dict[int | str, dict[str, Any]]:
    """The same of the errors alone."""
    found: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        status = problems.status_of(error)
        entry = found.setdefault(
            int(status),
            {"description": status.phrase, "content": {JSON: {"schema": ERROR, "examples": {}}}},
        )
        entry["content"][JSON]["examples"][error.code] = {"value": {"error": str(error)}}
    return found


def body(description: str, examples: Mapping[str, Any], **other_kinds: str) -> dict[str, Any]:
    """The request body of an operation: JSON, and other content types with what they mean."""
    shown = {name: {"value": value} for name, value in examples.items()}
    content: dict[str, Any] = {JSON: {"schema": _OBJECT, "examples": shown}}
    for kind, meaning in other_kinds.items():
        content[kind] = {"schema": {"type": "string", "format": "binary", "description": meaning}}
    return {"required": True, "description": description, "content": content}


def path_parameters(**meanings: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "description": meaning, "schema": {"type": "string"}}
        for name, meaning in meanings.items()
    ]


def curl(*lines: str) -> list[dict[str, str]]:
    return [{"lang": "curl", "source": line} for line in lines]
