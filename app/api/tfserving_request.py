"""Bodies of TensorFlow Serving's `predict` and `classify`, from JSON to pictures."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.api import json_document, pictures, pixels
from app.api.json_document import Budget
from app.api.pictures import ENCODED, PIXELS, PROBABILITIES, SCORE, Encoded, Pictures
from app.errors import ProtocolError

DEFAULT: Final = "serving_default"
_B64: Final = "b64"
_COMPLAINT: Final = "Failed to process element: {index} of '{key}' list. Error: {error}"

_Picture = NDArray[np.uint8] | bytes
_P = TypeVar("_P", bound=_Picture)


@dataclass(frozen=True, slots=True)
class Signature:
    """`inputs` are names of which a request gives exactly one; metadata shows the first."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


# The first two are those of the SavedModel, which take files too; the third exists for clients that look into
# the metadata for an input of files.
SIGNATURES: Final[Mapping[str, Signature]] = {
    DEFAULT: Signature((PIXELS, ENCODED), (PROBABILITIES,)),
    "scored": Signature((PIXELS, ENCODED), (PROBABILITIES, SCORE)),
    "encoded": Signature((ENCODED,), (PROBABILITIES,)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a request asks for; `row` if it listed its pictures as `instances` or `examples`."""

    pictures: Pictures
    outputs: tuple[str, ...]
    row: bool


def predict(data: bytes, shape: Sequence[int], budget: Budget) -> Asked:
    """Reads `instances` or `inputs` for pictures of `shape`, which is (height, width, channels).

    Raises:
        MalformedBodyError: the body is no JSON.
        ProtocolError: it is no request that the signature allows.
    """
    body = _object(json_document.parse(data, budget, ignore_rest=True))
    signature = _signature(body)
    if "instances" in body and "inputs" in body:
        raise _malformed(body, "expecting only one of 'inputs' or 'instances' keys to exist ")
    if "instances" in body:
        items = _list(body, "instances")
        found = _each(items, "instances", lambda item: _picture(item, signature, shape))
        return Asked(_joined(found, "instances"), signature.outputs, row=True)
    if "inputs" in body:
        return Asked(_column(body["inputs"], signature, shape), signature.outputs, row=False)
    raise ProtocolError("Missing 'inputs' or 'instances' key")


def classify(data: bytes, shape: Sequence[int], budget: Budget) -> Asked:
    """Reads `examples` and the `context` that they share.

    Raises:
        MalformedBodyError: the body is no JSON.
        ProtocolError: it has no examples, or one is no picture.
    """
    body = _object(json_document.parse(data, budget, ignore_rest=True))
    signature = _signature(body)
    if "examples" not in body:
        raise ProtocolError("When method is classify, key 'examples' is expected and was not found")
    context = _object(body.get("context", {}))
    items = _list(body, "examples")
    found = _each(items, "examples", lambda item: _features(context | _object(item), signature, shape))
    return Asked(_joined(found, "examples"), signature.outputs, row=True)


def _signature(body: Mapping[str, Any]) -> Signature:
    name = body.get("signature_name", DEFAULT)
    if not isinstance(name, str):
        raise _wrong_type(name, "string")
    found = SIGNATURES.get(name or DEFAULT)
    if found is None:
        raise ProtocolError(f"Serving signature name: {json_document.shown(name)} not found in signature def")
    return found


def _column(value: Any, signature: Signature, shape: Sequence[int]) -> Pictures:
    """One tensor, bare or under its name, with the number of pictures as its first dimension."""
    name, value = _named(value, signature)
    if name == PIXELS:
        return pixels.of_shape(pixels.from_nested(value), shape, PIXELS)
    if not isinstance(value, list):
        raise ProtocolError(f"The input {ENCODED!r} has the shape []; [-1] is expected: send a list.")
    return _joined(_each(value, "inputs", _file), "inputs")


def _picture(value: Any, signature: Signature, shape: Sequence[int]) -> _Picture:
    name, value = _named(value, signature)
    if name == ENCODED:
        return _file(value)
    return _first(pixels.from_nested([value]), shape)


def _features(example: Mapping[str, Any], signature: Signature, shape: Sequence[int]) -> _Picture:
    """As `_picture`, but features have no shape: pixels may be one flat list, a file a list of one."""
    name, value = _named(example, signature)
    if name == ENCODED:
        return _file(value[0] if isinstance(value, list) and len(value) == 1 else value)
    image = pixels.from_nested([value])
    if image.shape == (1, math.prod(shape)):
        image = image.reshape(1, *shape)
    return _first(image, shape)


def _first(images: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.uint8]:
    first: NDArray[np.uint8] = pixels.of_shape(images, shape, PIXELS)[0]
    return first


def _named(value: Any, signature: Signature) -> tuple[str, Any]:
    """The input that a value is for, and the value without that name."""
    if isinstance(value, dict) and not _is_b64(value):
        if len(value) == 1 and (name := next(iter(value))) in signature.inputs:
            return name, value[name]
        allowed = " or ".join(map(repr, signature.inputs))
        raise _malformed(value, f"expecting an object with the key {allowed} alone")
    first = value[0] if isinstance(value, list) and value else value
    return (ENCODED if _is_b64(first) else signature.inputs[0]), value


def _file(value: Any) -> bytes:
    if not _is_b64(value):
        raise _wrong_type(value, 'string in base64, as {"b64": "..."}')
    data = pictures.from_base64(value[_B64])
    if data is None:
        raise ProtocolError("Unable to base64 decode")
    return data


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {_B64} and isinstance(value[_B64], str)


def _each(items: list[Any], key: str, convert: Callable[[Any], _P]) -> list[_P]:
    found = []
    for index, item in enumerate(items):
        try:
            found.append(convert(item))
        except ProtocolError as error:
            raise ProtocolError(_COMPLAINT.format(key=key, index=index, error=error)) from error
    return found


def _joined(found: Sequence[_Picture], key: str) -> Pictures:
    files = [picture for picture in found if isinstance(picture, bytes)]
    images = [picture for picture in found if not isinstance(picture, bytes)]
    if files and images:
        raise ProtocolError(f"'{key}' mixes {PIXELS!r} and {ENCODED!r}; give all pictures in one of them.")
    if files:
        return Encoded(files, _COMPLAINT.replace("{key}", key))
    return np.stack(images) if images else np.empty((0,), dtype=np.uint8)


def _list(body: Mapping[str, Any], key: str) -> list[Any]:
    value = body[key]
    if not isinstance(value, list):
        raise _malformed(body, f"Expecting '{key}' to be an list/array")
    if not value:
        raise _malformed(body, f"No values in '{key}' array")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong_type(value, "object")
    return value


def _malformed(value: Any, what: str) -> ProtocolError:
    return ProtocolError(f"JSON Value: {json_document.shown(value)} Not formatted correctly {what}")


def _wrong_type(value: Any, expected: str) -> ProtocolError:
    kind = json_document.type_name(value)
    return ProtocolError(
        f"JSON Value: {json_document.shown(value)} Type: {kind} is not of expected type: {expected}"
    )
