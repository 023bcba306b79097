"""The parameters of a call as a table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from app.api.prose import prose

_COLUMNS: Final = ("Name", "In", "Type", "Required", "Meaning")
_TYPES: Final = {"boolean": "true or false", "integer": "whole number", "string": "text"}
_BOUNDS: Final = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
    "default": "default",
}


def table(parameters: Sequence[Mapping[str, Any]]) -> str:
    """HTML."""
    head = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
    rows = "".join(map(_row, parameters))
    return f'<table class="words"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def kind(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words: `squash or crop, default squash`."""
    if "enum" in schema:
        what = " or ".join(map(_shown, schema["enum"]))
    else:
        what = _TYPES.get(schema.get("type", "string"), schema.get("type", ""))
    return ", ".join([what, *_bounds(schema)])


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    return (f"{words} {_shown(schema[name])}" for name, words in _BOUNDS.items() if name in schema)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _row(parameter: Mapping[str, Any]) -> str:
    required = "required" if parameter.get("required") else "optional"
    cells = (parameter["in"], escape(kind(parameter["schema"])), required, prose(parameter["description"]))
    name = f'<th scope="row"><code>{escape(parameter["name"])}</code></th>'
    return f"<tr>{name}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
