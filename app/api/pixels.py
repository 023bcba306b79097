"""Pixels out of JSON: nested lists of whole numbers become uint8 arrays."""

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.api import json_document
from app.errors import ProtocolError

_MOST_DIMENSIONS: Final = 8
_NUMBERS: Final = "Pixels are whole numbers from 0 to 255."
_FILE: Final = (
    'Pixels are numbers; a file goes in as {"b64": "its bytes in base64"} under /v1, and as an input of the '
    "type BYTES under /v2."
)


def from_nested(value: Any) -> NDArray[np.uint8]:
    """An array with the shape that the lists have.

    Raises:
        ProtocolError: they are ragged, or hold anything but whole numbers from 0 to 255.
    """
    shape = _shape(value)
    level = [value]
    for size in shape:
        for item in level:
            if type(item) is not list:
                raise _wrong_type(item)
            if len(item) != size:
                raise ProtocolError(f"Encountered list at unexpected size: {len(item)} expected: {size}")
        level = list(chain.from_iterable(level))
    return _bytes(level).reshape(shape)


def _shape(value: Any) -> tuple[int, ...]:
    """That of the first item of each level, which the others must have too."""
    shape: list[int] = []
    while type(value) is list:
        if len(shape) == _MOST_DIMENSIONS:
            raise ProtocolError(f"The lists are nested deeper than {_MOST_DIMENSIONS} levels.")
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _bytes(numbers: list[Any]) -> NDArray[np.uint8]:
    if not set(map(type, numbers)) <= {int}:
        raise _wrong_type(next(number for number in numbers if type(number) is not int))
    try:
        return np.frombuffer(bytes(numbers), dtype=np.uint8)
    except (ValueError, OverflowError) as error:
        raise _wrong_type(next(number for number in numbers if not 0 <= number <= 255)) from error


def _wrong_type(value: Any) -> ProtocolError:
    """In the words of TensorFlow Serving, and what to send: how to send a picture is what most ask first."""
    return ProtocolError(
        f"JSON Value: {json_document.shown(value)} Type: {json_document.type_name(value)} is not of expected "
        f"type: uint8. {_FILE if isinstance(value, str) else _NUMBERS}"
    )


def of_shape(images: NDArray[np.uint8], expected: Iterable[int], name: str) -> NDArray[np.uint8]:
    """The same array, if its shape is [N, *expected].

    Raises:
        ProtocolError: it is not.
    """
    wanted = tuple(expected)
    if images.ndim != len(wanted) + 1 or images.shape[1:] != wanted:
        raise ProtocolError(
            f"The input {name!r} has the shape {list(images.shape)}; {[-1, *wanted]} is expected."
        )
    return images
