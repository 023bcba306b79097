"""Open Inference Protocol, version 2, over gRPC: what its methods answer, as `app.api.oip` does over HTTP."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from app.api import body, oip, oip_binary, oip_response, pictures, protobuf_schema
from app.api.admission import Gate
from app.api.oip_messages import SERVICE, message
from app.api.oip_request import Contract, InferRequest
from app.decoding import Decoder
from app.engines import Prediction
from app.errors import ProtocolError, UnavailableError, UnknownModelError
from app.model import Model, State
from app.serving import Serving
from app.settings import Settings

INFER: Final = "ModelInfer"

_CONTENTS: Final[Mapping[str, str]] = {"BYTES": "bytes_contents", "UINT8": "uint_contents"}
_ANSWERS: Final[Mapping[str, str]] = {"BYTES": "bytes_contents", "FP32": "fp32_contents"}
_NUMBERS_AT_ONCE: Final = 64 * 1024  # become bytes while no other thread runs


@dataclass(frozen=True, slots=True)
class InferenceService:
    """Takes a message and the seconds that are left, and gives a message; `methods` has their names."""

    NAME: ClassVar = SERVICE
    message = staticmethod(message)
    serving: Serving
    decoder: Decoder
    settings: Settings
    gate: Gate

    @property
    def methods(self) -> Mapping[str, Callable[[Any, float], Awaitable[Any]]]:
        return {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            INFER: self.infer,
            "RepositoryIndex": self.index,
        }

    async def server_live(self, _asked: Any, _allowed_s: float) -> Any:
        """Answers as long as the event loop turns."""
        return message("ServerLiveResponse")(live=True)

    async def server_ready(self, _asked: Any, _allowed_s: float) -> Any:
        return message("ServerReadyResponse")(ready=self.serving.state is State.READY)

    async def model_ready(self, asked: Any, _allowed_s: float) -> Any:
        """A model that is not known is not ready either: clients ask until it is."""
        try:
            self._model(asked.name, asked.version)
        except (UnknownModelError, UnavailableError):
            return message("ModelReadyResponse")(ready=False)
        return message("ModelReadyResponse")(ready=self.serving.state is not State.DRAINING)

    async def server_metadata(self, _asked: Any, _allowed_s: float) -> Any:
        return message("ServerMetadataResponse")(**oip.SERVER | {"extensions": ["classification"]})

    async def model_metadata(self, asked: Any, _allowed_s: float) -> Any:
        model = self._model(asked.name, asked.version)
        described = oip.described(model, self.serving)
        return message("ModelMetadataResponse")(
            **{field: value for field, value in described.items() if field != "parameters"}
        )

    async def infer(self, asked: Any, allowed_s: float) -> Any:
        """Encoded pictures or pixels in, probabilities and a score out, in the form of the request."""
        with self._model(asked.model_name, asked.model_version).held() as model:
            contract = Contract(model.manifest, self.settings.queue_pictures)
            request = await body.beside(partial(read, asked, contract), asked.ByteSize())
            answered = await pictures.answer(
                request.pictures, model, self.decoder, self.gate, request.fit, allowed_s=allowed_s
            )
            return _answer(request, answered.prediction, model, raw=bool(asked.raw_input_contents))

    async def index(self, asked: Any, _allowed_s: float) -> Any:
        listed = await oip.versions(self.serving, self.settings, only_ready=asked.ready)
        return message("RepositoryIndexResponse")(models=listed)

    def _model(self, name: str, version: str) -> Model:
        return oip.find(name, version or None, self.serving)


def read(asked: Any, contract: Contract) -> InferRequest:
    """Reads a `ModelInferRequest`: as a request over HTTP in which every tensor is in binary form.

    Raises:
        ProtocolError: it is none that the model answers.
    """
    tensors = list(asked.raw_input_contents) or [_packed(tensor) for tensor in asked.inputs]
    if len(tensors) != len(asked.inputs):
        raise ProtocolError(
            f"the call has {len(tensors)} raw_input_contents for {len(asked.inputs)} inputs; give one each"
        )
    if asked.raw_input_contents and any(tensor.contents.ListFields() for tensor in asked.inputs):
        raise ProtocolError("the call has both contents and raw_input_contents; give one of them")
    inputs = [_described(tensor, len(data)) for tensor, data in zip(asked.inputs, tensors, strict=True)]
    outputs = [
        {"name": output.name, "parameters": _parameters(output.parameters)} for output in asked.outputs
    ]
    document = {"inputs": inputs, "outputs": outputs, "parameters": _parameters(asked.parameters)}
    return contract.read(document | ({"id": asked.id} if asked.id else {}), memoryview(b"".join(tensors)))


def _described(tensor: Any, size_bytes: int) -> dict[str, Any]:
    parameters = _parameters(tensor.parameters) | {"binary_data_size": size_bytes}
    shape = list(tensor.shape)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "parameters": parameters}


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof(protobuf_schema.CHOICE) or "", None)
        for name, value in given.items()
    }


def _packed(tensor: Any) -> bytes:
    """The contents of a tensor in binary form, none if it is of a type that no model takes."""
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        return b""
    contents = getattr(tensor.contents, field)
    if not contents:
        raise ProtocolError(f"the input '{tensor.name}' must have either {field} or raw_input_contents")
    return oip_binary.pack(contents) if tensor.datatype == "BYTES" else _pixels(tensor.name, contents)


def _pixels(name: str, numbers: Any) -> bytes:
    starts = range(0, len(numbers), _NUMBERS_AT_ONCE)
    try:
        return b"".join(bytes(numbers[start : start + _NUMBERS_AT_ONCE]) for start in starts)
    except ValueError as error:
        raise ProtocolError(
            f"the input '{name}' holds {max(numbers)}; elements of UINT8 are 0 to 255"
        ) from error


def _answer(request: InferRequest, prediction: Prediction, model: Model, *, raw: bool) -> Any:
    manifest = model.manifest
    answer = message("ModelInferResponse")(
        model_name=manifest.name, model_version=str(manifest.version), id=request.id or ""
    )
    for name, value in oip_response.parameters(model).items():
        answer.parameters[name].string_param = value
    for output in request.outputs:
        tensor = oip_response.tensor_of(output, prediction, manifest)
        told = answer.outputs.add(name=output.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            answer.raw_output_contents.append(tensor.packed)
        elif tensor.datatype == "BYTES":
            told.contents.bytes_contents.extend(text.encode() for text in tensor.flat)
        else:
            told.contents.fp32_contents.extend(tensor.flat)
    return answer
