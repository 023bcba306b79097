"""`/v1`: TensorFlow Serving's REST interface, for the clients that are written against it.

Its rules win over ours here: content types are ignored, whatever is no route is a malformed request (400),
and the words of its error messages are what its clients may look for.
"""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from fastapi import Request, Response
from numpy.typing import NDArray

from app.api import body, content_encoding, decimals, pictures, tfserving_metadata, tfserving_request
from app.api.deadline import deadline
from app.api.dependencies import Decoder, Serving, Settings
from app.api.json_document import Budget
from app.api.tfserving_request import Asked
from app.engines import Prediction
from app.errors import NotReadyError, ProtocolError, UnknownModelError
from app.repository import Repository
from app.serving import Model, State

_LARGEST_VERSION: Final = 2**63 - 1
_SHOWN: Final = 200


async def predict(request: Request, serving: Serving, decoder: Decoder, settings: Settings) -> Response:
    """Pixels or encoded pictures in, the probabilities of every class out."""
    with _model(request, serving, settings).held() as model:
        asked, prediction = await _answered(request, tfserving_request.predict, model, decoder, settings)
        outputs = {name: getattr(prediction, name) for name in asked.outputs}
        content = {"predictions": _rows(outputs)} if asked.row else {"outputs": _columns(outputs)}
    return _reply(request, content)


async def classify(request: Request, serving: Serving, decoder: Decoder, settings: Settings) -> Response:
    """Examples in, the classes of each with their probabilities out, in the order that the model has."""
    with _model(request, serving, settings).held() as model:
        _, prediction = await _answered(request, tfserving_request.classify, model, decoder, settings)
        names = model.manifest.class_names
        scores = [decimals.shortest(row) for row in prediction.probabilities]
        content = {"results": [list(zip(names, row, strict=True)) for row in scores]}
    return _reply(request, content)


async def regress(request: Request, serving: Serving, settings: Settings) -> Response:
    """Refused: a model that classifies has no regression to offer."""
    model = _model(request, serving, settings)
    raise ProtocolError(
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: "
        f"{tfserving_metadata.METHOD}. {model.manifest.name} classifies; use :predict or :classify."
    )


async def status(request: Request, serving: Serving, settings: Settings) -> Response:
    """The version that is served and what state it is in; 200 whatever that is."""
    name, wanted = _reference(request)
    number, state = await _version(serving, settings) if name == settings.model_name else (None, "")
    if number is None:
        raise UnknownModelError(f"Could not find any versions of model {name}")
    if wanted not in (None, number):
        raise UnknownModelError(f"Could not find version {wanted} of model {name}")
    problem = serving.reason if serving.state is State.FAILED else ""
    return _reply(request, tfserving_metadata.status({number: state}, problem))


async def metadata(request: Request, serving: Serving, settings: Settings) -> Response:
    """The signatures: names, types and shapes of what goes in and comes out."""
    return _reply(request, tfserving_metadata.metadata(_model(request, serving, settings).manifest))


async def without_name(_request: Request) -> Response:
    raise ProtocolError("Missing model name in request.")


async def malformed(request: Request) -> Response:
    path = request.scope.get("raw_path", b"").decode("ascii", "replace")[:_SHOWN]
    raise ProtocolError(f"Malformed request: {request.method} {path}")


async def _answered(
    request: Request, parse: Callable[..., Asked], model: Model, decoder: Decoder, settings: Settings
) -> tuple[Asked, Prediction]:
    data = await body.read(request, settings.body_timeout_s)
    size = model.manifest.input
    shape = (size.height, size.width, size.channels)
    budget = Budget.of_pictures(settings.queue_pictures, shape)
    async with deadline(request, settings):
        asked = await body.parsed(request, data, settings, partial(parse, shape=shape, budget=budget))
        return asked, await pictures.answer(asked.pictures, model, decoder, settings)


def _reference(request: Request) -> tuple[str, int | None]:
    """The model's name and the version, if one is named."""
    name, version = request.path_params["name"], request.path_params.get("version")
    if "label" in request.path_params:
        label = request.path_params["label"][:_SHOWN]
        raise ProtocolError(f"Unrecognized servable version label: {label}")
    if version is not None and (len(version) > _SHOWN or int(version) > _LARGEST_VERSION):
        raise ProtocolError(f"Failed to convert version: {version[:_SHOWN]} to numeric.")
    return name[:_SHOWN], None if version is None else int(version)


def _model(request: Request, serving: Serving, settings: Settings) -> Model:
    name, version = _reference(request)
    wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    if name == settings.model_name:
        live = serving.live
        if version in (None, live.manifest.version):
            return live
    raise UnknownModelError(f"Servable not found for request: {wanted}")


async def _version(serving: Serving, settings: Settings) -> tuple[int | None, str]:
    try:
        number = serving.live.manifest.version
    except NotReadyError:
        on_disk = await asyncio.to_thread(Repository(settings.model_root).versions, settings.model_name)
        wanted = [number for number in on_disk if settings.model_version in ("latest", number)]
        return max(wanted, default=None), "LOADING" if serving.state is State.LOADING else "END"
    return number, "UNLOADING" if serving.state is State.DRAINING else "AVAILABLE"


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


def _reply(request: Request, content: dict[str, Any]) -> Response:
    response = Response(json.dumps(content), media_type="application/json")
    return content_encoding.compress(response, request.headers.get("accept-encoding", ""))
