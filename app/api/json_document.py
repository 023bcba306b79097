"""JSON from strangers, at a cost that is bounded before anything is allocated.

The parser of the standard library holds the interpreter's lock from the first byte to the last, in a thread
too, so a long list of numbers would stop every other request. Numbers are made by functions of ours here:
between two of them other threads get their turn. What has no such turn, containers, is counted beforehand.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from app.errors import MalformedBodyError

_LONGEST_INTEGER: Final = 20  # digits that 64 bits and a sign need; longer ones become floating point
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_SHOWN: Final = 100
_SPARE: Final = 10_000
_TYPES: Final[Mapping[type, str]] = {
    type(None): "Null",
    bool: "Boolean",
    int: "Number",
    float: "Number",
    str: "String",
    list: "Array",
    dict: "Object",
}


@dataclass(frozen=True, slots=True)
class Budget:
    """How many values and containers a document may hold."""

    values: int
    containers: int

    @classmethod
    def of_pictures(cls, pictures: int, shape: Sequence[int]) -> Self:
        """Enough for so many pictures of `shape` as nested lists of numbers, and for what is around them."""
        numbers = math.prod(shape)
        around = 2  # the list of an image's rows, and an object for its name
        containers = math.prod(shape[:-1]) + math.prod(shape[:-2]) + around
        return cls(pictures * (numbers + containers) + _SPARE, pictures * containers + _SPARE)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _number(digits: str) -> float:
    return float(digits)


_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_float=_number)


def parse(data: bytes, budget: Budget, *, ignore_rest: bool = False) -> Any:
    """The value in a document; `ignore_rest` allows anything behind it. NaN and infinities are numbers.

    Raises:
        MalformedBodyError: it is no JSON in UTF-8, is nested too deeply, or exceeds the budget.
    """
    _count(data, budget)
    text = _text(data)
    begin = _SPACE.match(text).end()  # type: ignore[union-attr]
    if begin == len(text):
        raise MalformedBodyError("JSON Parse error: The document is empty")
    try:
        value, end = _DECODER.raw_decode(text, begin)
    except json.JSONDecodeError as error:
        raise _invalid(text, error.pos) from error
    except RecursionError as error:
        raise MalformedBodyError("JSON Parse error: The document is nested too deeply.") from error
    end = _SPACE.match(text, end).end()  # type: ignore[union-attr]
    if end < len(text) and not ignore_rest:
        raise _invalid(text, end)
    return value


def type_name(value: Any) -> str:
    """What JSON calls the type of a value."""
    return _TYPES[type(value)]


def shown(value: Any) -> str:
    """The beginning of a value, in ASCII, for an error message."""
    return json.dumps(_pruned(value, levels=3))[:_SHOWN]


def _pruned(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return value[:_SHOWN]
    if isinstance(value, list):
        return [_pruned(item, levels - 1) for item in value[:4]] if levels else []
    if isinstance(value, dict):
        first = list(value.items())[:4] if levels else []
        return {name[:_SHOWN]: _pruned(item, levels - 1) for name, item in first}
    return value


def _count(data: bytes, budget: Budget) -> None:
    """Every value but a container's first follows a comma, so this never counts too few."""
    containers = data.count(b"[") + data.count(b"{")
    values = containers + data.count(b",") + 1
    if containers > budget.containers or values > budget.values:
        raise MalformedBodyError(
            f"The JSON has up to {values:,} values in {containers:,} lists and objects; at most "
            f"{budget.values:,} in {budget.containers:,} are taken. Send fewer pictures per request."
        )


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise MalformedBodyError(
            f"JSON Parse error: Invalid encoding in string. at offset: {error.start}"
        ) from error


def _invalid(text: str, position: int) -> MalformedBodyError:
    offset = len(text[:position].encode("utf-8", "surrogatepass"))
    return MalformedBodyError(f"JSON Parse error: Invalid value. at offset: {offset}")
