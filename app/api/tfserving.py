"""`/v1`: TensorFlow Serving's REST interface, for the clients that are written against it.

Its rules win over ours here: content types are ignored, whatever is no route is a malformed request (400),
and the words of its error messages are what its clients may look for.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
from fastapi import Request, Response
from numpy.typing import NDArray

from app.api import body, content_encoding, decimals, pictures, tfserving_metadata, tfserving_request
from app.api.deadline import deadline, timeout_s
from app.api.dependencies import Decoder, Serving, Settings
from app.api.json_document import Budget
from app.api.tfserving_request import Asked
from app.errors import (
    LabelNotFoundError,
    ModelNotFoundError,
    ProtocolError,
    UnknownModelError,
    VersionNotFoundError,
)
from app.model import Model, State
from app.residents import Status

_LARGEST_VERSION: Final = 2**63 - 1
_SHOWN: Final = 200
_MODEL: Final = "X-Model"
_FALLBACK: Final = "X-Model-Fallback"
_STATES: Final[Mapping[State, str]] = {
    State.LOADING: "LOADING",
    State.READY: "AVAILABLE",
    State.DRAINING: "UNLOADING",
    State.FAILED: "END",
}


async def predict(request: Request, serving: Serving, decoder: Decoder, settings: Settings) -> Response:
    """Pixels or encoded pictures in, the probabilities of every class out."""
    with _model(request, serving).held() as model:
        asked, answered = await _answered(request, tfserving_request.predict, model, decoder, settings)
        outputs = {name: getattr(answered.prediction, name) for name in asked.outputs}
        content = {"predictions": _rows(outputs)} if asked.row else {"outputs": _columns(outputs)}
        return _prediction(request, content, model, answered)


async def classify(request: Request, serving: Serving, decoder: Decoder, settings: Settings) -> Response:
    """Examples in, the classes of each with their probabilities out, in the order that the model has."""
    with _model(request, serving).held() as model:
        _, answered = await _answered(request, tfserving_request.classify, model, decoder, settings)
        names = model.manifest.class_names
        scores = [decimals.shortest(row) for row in answered.prediction.probabilities]
        content = {"results": [list(zip(names, row, strict=True)) for row in scores]}
        return _prediction(request, content, model, answered)


async def regress(request: Request, serving: Serving) -> Response:
    """Refused: a model that classifies has no regression to offer."""
    model = _model(request, serving)
    raise ProtocolError(
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: "
        f"{tfserving_metadata.METHOD}. {model.manifest.name} classifies; use :predict or :classify."
    )


async def status(request: Request, serving: Serving) -> Response:
    """The versions in memory, or on their way in or out, and what state each is in; 200 whatever that is."""
    name, wanted, label = _reference(request)
    versions = serving.models.get(name)
    if label is not None:
        wanted = _labelled(label, versions.labels if versions else {})
    found = _stated(await versions.listed(), serving.state) if versions else {}
    if not found:
        raise UnknownModelError(f"Could not find any versions of model {name[:_SHOWN]}")
    if wanted is not None:
        if wanted not in found:
            raise UnknownModelError(f"Could not find version {wanted} of model {name[:_SHOWN]}")
        found = {wanted: found[wanted]}
    return _reply(request, tfserving_metadata.status(found))


async def metadata(request: Request, serving: Serving) -> Response:
    """The signatures: names, types and shapes of what goes in and comes out."""
    return _reply(request, tfserving_metadata.metadata(_model(request, serving).manifest))


async def without_name(_request: Request) -> Response:
    raise ProtocolError("Missing model name in request.")


async def malformed(request: Request) -> Response:
    path = request.scope.get("raw_path", b"").decode("ascii", "replace")[:_SHOWN]
    raise ProtocolError(f"Malformed request: {request.method} {path}")


async def _answered(
    request: Request, parse: Callable[..., Asked], model: Model, decoder: Decoder, settings: Settings
) -> tuple[Asked, pictures.Answered]:
    data = await body.read(request, settings.body_timeout_s)
    size = model.manifest.input
    shape = (size.height, size.width, size.channels)
    budget = Budget.of_pictures(settings.queue_pictures, shape)
    async with deadline(request, settings):
        asked = await body.parsed(request, data, settings, partial(parse, shape=shape, budget=budget))
        gate, allowed_s = request.app.state.gate, timeout_s(request.scope, settings)
        return asked, await pictures.answer(asked.pictures, model, decoder, gate, allowed_s=allowed_s)


def _reference(request: Request) -> tuple[str, int | None, str | None]:
    """The model's name, and the version or the label, if one is named.

    The clients of OpenVINO Model Server, which has this interface too, say version 0 for the live one.
    """
    name, version = request.path_params["name"], request.path_params.get("version")
    if version is not None and (len(version) > _SHOWN or int(version) > _LARGEST_VERSION):
        raise ProtocolError(f"Failed to convert version: {version[:_SHOWN]} to numeric.")
    return name, None if version is None else int(version) or None, request.path_params.get("label")


def _model(request: Request, serving: Serving) -> Model:
    name, version, label = _reference(request)
    try:
        return serving.find(name, version, label)
    except (LabelNotFoundError, ModelNotFoundError, VersionNotFoundError) as error:
        if label is not None:
            raise _unknown_label(label) from error
        shown = name[:_SHOWN]
        wanted = f"Latest({shown})" if version is None else f"Specific({shown}, {version})"
        raise UnknownModelError(f"Servable not found for request: {wanted}") from error


def _labelled(label: str, labels: Mapping[str, int]) -> int:
    if label not in labels:
        raise _unknown_label(label)
    return labels[label]


def _unknown_label(label: str) -> ProtocolError:
    return ProtocolError(f"Unrecognized servable version label: {label[:_SHOWN]}")


def _stated(versions: Mapping[int, Status], service: State) -> dict[int, tuple[str, str]]:
    """The protocol's word for the state of each version, and what is wrong with it."""
    if service is State.DRAINING:
        versions = {
            number: Status(State.DRAINING) if status.state is State.READY else status
            for number, status in versions.items()
        }
    return {
        number: (_STATES[status.state], status.reason)
        for number, status in versions.items()
        if status.state in _STATES
    }


def _columns(outputs: dict[str, NDArray[np.float32]]) -> Any:
    columns = {name: _nested(output) for name, output in outputs.items()}
    return columns if len(columns) > 1 else next(iter(columns.values()))


def _rows(outputs: dict[str, NDArray[np.float32]]) -> list[Any]:
    columns = {name: _nested(output) for name, output in outputs.items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _nested(output: NDArray[np.float32]) -> list[Any]:
    return decimals.shortest(output) if output.ndim == 1 else [decimals.shortest(row) for row in output]


def _prediction(
    request: Request, content: dict[str, Any], model: Model, answered: pictures.Answered
) -> Response:
    """The protocol has no field for what answered, so that stands in headers."""
    response = _reply(request, content)
    manifest, engine = model.manifest, model.engine
    told = {_MODEL: f"{manifest.name}/{manifest.version} {engine.name}/{engine.precision}"}
    if model.fallback:
        told[_FALLBACK] = model.fallback
    response.headers.update({name: _in_a_header(text) for name, text in told.items()})
    response.headers.update(answered.timing(request.app.state.metrics))
    return response


def _in_a_header(text: str) -> str:
    return " ".join(text.split()).encode("ascii", "replace").decode()


def _reply(request: Request, content: dict[str, Any]) -> Response:
    response = Response(json.dumps(content), media_type="application/json")
    return content_encoding.compress(response, request.headers.get("accept-encoding", ""))
