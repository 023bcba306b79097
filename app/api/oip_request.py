"""The body of an inference request in Open Inference Protocol: JSON, JSON with binary tensors, or raw."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.api import json_document, oip_binary, pictures, pixels
from app.api.json_document import Budget
from app.api.pictures import ENCODED, PIXELS, PROBABILITIES, SCORE, Encoded, Pictures
from app.errors import ProtocolError
from app.geometry import DEFAULT_FIT, FITS, Fit
from app.manifest import Manifest

_DATATYPES: Final[Mapping[str, str]] = {ENCODED: "BYTES", PIXELS: "UINT8"}
_ELEMENT: Final = f"The element {{index}} of the input {ENCODED!r} is refused: {{error}}"


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that was asked for, as the `classes` best of its classes unless that is 0."""

    name: str
    binary: bool = False
    classes: int = 0


ALL_BINARY: Final = (Output(PROBABILITIES, binary=True), Output(SCORE, binary=True))


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    pictures: Pictures
    outputs: tuple[Output, ...]
    id: str | None = None
    fit: Fit = DEFAULT_FIT


@dataclass(frozen=True, slots=True)
class Contract:
    """What the model takes; a request may bring at most `pictures`."""

    manifest: Manifest
    pictures: int

    @property
    def shape(self) -> tuple[int, int, int]:
        size = self.manifest.input
        return size.height, size.width, size.channels

    @property
    def budget(self) -> Budget:
        """What a message may hold."""
        return Budget.of_pictures(self.pictures, self.shape)

    def parse(self, body: bytes, header: str | None) -> InferRequest:
        """Reads a body; `header` is the value of `oip_binary.HEADER`, if that was sent.

        Raises:
            MalformedBodyError: the JSON is none.
            ProtocolError: it is no request that this model answers.
        """
        length = len(body) if header is None else oip_binary.header_length(header, len(body))
        if header is not None and not length:
            return InferRequest(Encoded([body], _ELEMENT), ALL_BINARY)
        document = json_document.parse(body[:length], self.budget)
        if not isinstance(document, dict):
            raise _wrong("The request", "an object", document)
        return self.read(document, memoryview(body)[length:])

    def read(self, document: Mapping[str, Any], tail: memoryview) -> InferRequest:
        """Reads a request whose binary tensors lie in `tail`.

        Raises:
            ProtocolError: it is none that this model answers.
        """
        request_id = document.get("id")
        if request_id is not None and not isinstance(request_id, str):
            raise _wrong("'id'", "a string", request_id)
        parameters = _parameters(document)
        return InferRequest(
            self._pictures(document.get("inputs"), tail),
            _outputs(document.get("outputs"), parameters),
            request_id,
            _fit(parameters),
        )

    def _pictures(self, inputs: Any, tail: memoryview) -> Pictures:
        if not isinstance(inputs, list) or not all(isinstance(item, dict) for item in inputs):
            raise _wrong("'inputs'", "an array of objects", inputs)
        if len(inputs) != 1:
            raise ProtocolError(
                f"expected 1 inputs but got {len(inputs)} inputs for model '{self.manifest.name}': give "
                f"either {ENCODED!r} or {PIXELS!r}"
            )
        tensor = inputs[0]
        name = tensor.get("name")
        if name not in (PIXELS, ENCODED):
            raise ProtocolError(
                f"unexpected inference input {json_document.shown(name)} for model '{self.manifest.name}': "
                f"give either {ENCODED!r} or {PIXELS!r}"
            )
        if tensor.get("datatype") != _DATATYPES[name]:
            raise ProtocolError(
                f"inference input '{name}' data-type is {json_document.shown(tensor.get('datatype'))}, but "
                f"model '{self.manifest.name}' expects '{_DATATYPES[name]}'"
            )
        shape = self._batch_shape(name, tensor.get("shape"))
        binary = self._binary(name, tensor, tail)
        if name == PIXELS:
            return _images(tensor, shape, binary)
        return Encoded(_files(tensor, shape[0], binary), _ELEMENT)

    def _batch_shape(self, name: str, shape: Any) -> tuple[int, ...]:
        """The stated shape, if it is one that the input may have; checked before anything is allocated."""
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise _wrong(f"'shape' of the input '{name}'", "an array of whole numbers", shape)
        rest = self.shape if name == PIXELS else ()
        if len(shape) != len(rest) + 1 or tuple(shape[1:]) != rest:
            raise ProtocolError(
                f"unexpected shape for input '{name}' for model '{self.manifest.name}'. Expected "
                f"{[-1, *rest]}, got {json_document.shown(shape)}"
            )
        if not 1 <= shape[0] <= self.pictures:
            raise ProtocolError(
                f"the input '{name}' has {json_document.shown(shape[0])} pictures; 1 to {self.pictures} are "
                "taken in a request"
            )
        return tuple(shape)

    def _binary(self, name: str, tensor: Mapping[str, Any], tail: memoryview) -> memoryview | None:
        size = _parameters(tensor).get("binary_data_size")
        if (size is None) == ("data" not in tensor):
            raise ProtocolError(f"the input '{name}' must have either 'data' or 'binary_data_size'")
        stated = 0 if size is None else size
        if type(stated) is not int or stated < 0:
            raise _wrong(f"'binary_data_size' of the input '{name}'", "a whole number", stated)
        if stated > len(tail):
            raise ProtocolError(
                f"unexpected size for input '{name}', expecting {json_document.shown(stated - len(tail))} "
                f"additional bytes for model '{self.manifest.name}'"
            )
        if stated < len(tail):
            raise ProtocolError(f"unexpected additional input data for model '{self.manifest.name}'")
        return None if size is None else tail


def _images(
    tensor: Mapping[str, Any], shape: tuple[int, ...], binary: memoryview | None
) -> NDArray[np.uint8]:
    images = pixels.from_nested(tensor["data"]) if binary is None else np.frombuffer(binary, dtype=np.uint8)
    if images.size != math.prod(shape):
        raise ProtocolError(
            f"the input '{PIXELS}' has {images.size} elements; its shape {list(shape)} takes "
            f"{math.prod(shape)}"
        )
    return images.reshape(shape)


def _files(tensor: Mapping[str, Any], count: int, binary: memoryview | None) -> list[bytes]:
    """Raw picture bytes cannot stand in JSON, so strings there are base64 whether they say so or not."""
    kind = _parameters(tensor).get("content_type")
    if kind not in (None, "base64"):
        raise _wrong(f"'content_type' of the input '{ENCODED}'", "'base64'", kind)
    if binary is not None:
        packed = oip_binary.unpack(binary, count)
        return packed if kind is None else [_from_base64(str(data, "latin-1")) for data in packed]
    texts = tensor["data"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _wrong(f"'data' of the input '{ENCODED}'", "an array of strings", texts)
    if len(texts) != count:
        raise ProtocolError(f"the input '{ENCODED}' has {len(texts)} elements; its shape takes {count}")
    return [_from_base64(text) for text in texts]


def _from_base64(text: str) -> bytes:
    data = pictures.from_base64(text)
    if data is None:
        raise ProtocolError(
            f"an element of '{ENCODED}' is not base64; without it, send the picture as binary data"
        )
    return data


def _outputs(wanted: Any, parameters: Mapping[str, Any]) -> tuple[Output, ...]:
    binary = _flag(parameters, "binary_data_output", default=False)
    if wanted is None or wanted == []:
        return Output(PROBABILITIES, binary), Output(SCORE, binary)
    if not isinstance(wanted, list) or not all(isinstance(item, dict) for item in wanted):
        raise _wrong("'outputs'", "an array of objects", wanted)
    found: dict[str, Output] = {}
    for item in wanted:
        output = _output(item, binary=binary)
        if output.name in found:
            raise ProtocolError(f"output '{output.name}' already requested")
        found[output.name] = output
    return tuple(found.values())


def _output(item: Mapping[str, Any], *, binary: bool) -> Output:
    name, parameters = item.get("name"), _parameters(item)
    if name not in (PROBABILITIES, SCORE):
        raise ProtocolError(f"unexpected inference output {json_document.shown(name)}")
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise _wrong("'classification'", "a whole number", classes)
    if classes and name != PROBABILITIES:
        raise ProtocolError(f"the output '{name}' has no classes; ask for those of '{PROBABILITIES}'")
    return Output(name, _flag(parameters, "binary_data", default=binary), classes)


def _fit(parameters: Mapping[str, Any]) -> Fit:
    given = parameters.get("fit", DEFAULT_FIT)
    for known in FITS:
        if given == known:
            return known
    raise _wrong("'fit'", " or ".join(repr(fit) for fit in FITS), given)


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(f"'{name}'", "true or false", value)
    return value


def _parameters(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise _wrong("'parameters'", "an object", parameters)
    return parameters


def _wrong(what: str, expected: str, value: Any) -> ProtocolError:
    return ProtocolError(f"{what} must be {expected}, not {json_document.shown(value)}")
