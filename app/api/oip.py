"""`/v2`: Open Inference Protocol, version 2, over REST, for the clients of Triton, KServe and their like."""

import asyncio
import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from fastapi import Request, Response

from app import __version__, management
from app.api import body, content_encoding, json_document, oip_binary, oip_response, pictures
from app.api.deadline import deadline, timeout_s
from app.api.dependencies import Decoder, Serving, Settings
from app.api.json_document import Budget
from app.api.management import check_key, told
from app.api.oip_request import Contract
from app.api.pictures import ENCODED, PIXELS, PROBABILITIES, SCORE
from app.errors import (
    ConflictError,
    MalformedBodyError,
    ModelNotFoundError,
    NotReadyError,
    ProtocolError,
    UnknownModelError,
    UnsupportedOperationError,
    VersionNotFoundError,
)
from app.model import Model, State
from app.repository import Repository
from app.residents import Status

SERVER: Final[dict[str, Any]] = {
    "name": "image-classification-service",
    "version": __version__,
    "extensions": ["binary_tensor_data", "classification"],
}
_PLATFORMS: Final = {  # by engine, as the files that it reads
    "openvino": "openvino_ir",
    "tensorflow": "tensorflow_savedmodel",
    "winograd": "openvino_ir",
}
_SHOWN: Final = 200
_STATES: Final[Mapping[State, str]] = {
    State.LOADING: "LOADING",
    State.READY: "READY",
    State.DRAINING: "UNLOADING",
}


async def server(settings: Settings) -> dict[str, Any]:
    """Name, version, and the extensions that are understood."""
    if settings.admin_key is None:
        return SERVER
    return SERVER | {"extensions": [*SERVER["extensions"], "model_repository"]}


async def live() -> dict[str, bool]:
    """Answers as long as the event loop turns."""
    return {"live": True}


async def ready(serving: Serving) -> dict[str, bool]:
    """200 once a version is loaded, proven and warm; 503 and the reason before that and in shutdown."""
    if serving.state is not State.READY:
        raise NotReadyError(serving.reason)
    return {"ready": True}


async def model_ready(request: Request, serving: Serving) -> dict[str, Any]:
    """Whether this version answers; 503 and the reason if it does not now, 404 if it is not in memory."""
    model = _asked(request, serving)
    if serving.state is State.DRAINING:
        raise NotReadyError(serving.reason)
    return {"name": model.manifest.name, "ready": True}


async def metadata(request: Request, serving: Serving) -> dict[str, Any]:
    """Names, types and shapes of what goes in and comes out; a request gives exactly one of the inputs."""
    return described(_asked(request, serving), serving)


def described(model: Model, serving: Serving) -> dict[str, Any]:
    """The metadata of a version, with the numbers of those of the same model that are in memory too."""
    manifest, size = model.manifest, model.manifest.input
    return {
        "name": manifest.name,
        "versions": [str(number) for number in sorted(serving.versions(manifest.name).residents.ready)],
        "platform": _PLATFORMS.get(model.engine.name, model.engine.name),
        "inputs": [
            _tensor(ENCODED, "BYTES"),
            _tensor(PIXELS, "UINT8", size.height, size.width, size.channels),
        ],
        "outputs": [_tensor(PROBABILITIES, "FP32", len(manifest.class_names)), _tensor(SCORE, "FP32")],
        "parameters": {
            "inputs": f"A request gives either {ENCODED} (picture files) or {PIXELS} (RGB), not both."
        },
    }


async def infer(request: Request, serving: Serving, decoder: Decoder, settings: Settings) -> Response:
    """Encoded pictures or pixels in, probabilities and a score out, as JSON or in binary form."""
    with _asked(request, serving).held() as model:
        data = await body.read(request, settings.body_timeout_s)
        header = request.headers.get(oip_binary.HEADER)
        parse = partial(Contract(model.manifest, settings.queue_pictures).parse, header=header)
        async with deadline(request, settings):
            asked = await body.parsed(request, data, settings, parse)
            gate, allowed_s = request.app.state.gate, timeout_s(request.scope, settings)
            answered = await pictures.answer(
                asked.pictures, model, decoder, gate, asked.fit, allowed_s=allowed_s
            )
        response = oip_response.infer(asked, answered.prediction, model)
        response.headers.update(answered.timing(request.app.state.metrics))
    return content_encoding.compress(response, request.headers.get("accept-encoding", ""))


async def index(request: Request, serving: Serving, settings: Settings) -> Response:
    """Every published version, and what it is doing."""
    data = await body.read(request, settings.body_timeout_s)
    only_ready = await body.parsed(request, data, settings, _only_ready)
    listed = await versions(serving, settings, only_ready=only_ready)
    return Response(json.dumps(listed), media_type="application/json")


async def versions(serving: Serving, settings: Settings, *, only_ready: bool) -> list[dict[str, str]]:
    """Name, version, state and reason of each."""
    published = await asyncio.to_thread(Repository(settings.model_root).names)
    listed = [
        _listed(name, number, *status)
        for name in sorted({*published, *serving.models})
        for number, status in (await _statuses(name, serving, settings)).items()
    ]
    return [entry for entry in listed if entry["state"] == "READY" or not only_ready]


async def load(request: Request, serving: Serving, settings: Settings) -> Response:
    """Takes a published model into memory, or what is new of it; what failed before is tried again."""
    await _check_management(request, settings)
    with told():
        await management.serve(await serving.adopt(request.path_params["name"]), True)
    return Response()


async def unload(request: Request, serving: Serving, settings: Settings) -> Response:
    """Takes every version of a model out of memory when its last request is answered."""
    await _check_management(request, settings)
    with told():
        versions = serving.versions(request.path_params["name"])
        if serving.is_default(versions):
            raise ConflictError(f"{versions.name} is the default model of this service and stays in memory.")
        await management.serve(versions, False)
    return Response()


async def _check_management(request: Request, settings: Settings) -> None:
    if settings.admin_key is None:
        raise UnsupportedOperationError(
            "Models are not loaded and unloaded over HTTP here: this server does not have the extension "
            "model_repository. It has where CLASSIFIER_ADMIN_KEY is set."
        )
    check_key(request, settings)
    asked = await body.parsed(
        request, await body.read(request, settings.body_timeout_s), settings, _parameters
    )
    if taken := [name for name in asked if name == "config" or name.startswith("file:")]:
        raise ProtocolError(
            f"The parameter '{taken[0][:_SHOWN]}' is not taken: a model is served as it was published."
        )


def _parameters(data: bytes) -> dict[str, Any]:
    asked = _document(data)
    parameters = asked.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ProtocolError(f"'parameters' must be an object, not {json_document.shown(parameters)}")
    return parameters


def _asked(request: Request, serving: Serving) -> Model:
    return find(request.path_params["name"], request.path_params.get("version"), serving)


def find(name: str, version: str | None, serving: Serving) -> Model:
    """The model of this name, in this version if one is asked for, in its live one otherwise.

    Raises:
        UnknownModelError: it is not in memory.
        NotReadyError: it does not answer now.
    """
    try:
        return serving.find(name, None if version is None else _number(version))
    except (ModelNotFoundError, VersionNotFoundError) as error:
        wanted = f"'{name[:_SHOWN]}'" + ("" if version is None else f" version {version[:_SHOWN]}")
        raise UnknownModelError(f"Request for unknown model: {wanted} is not found") from error


def _number(version: str) -> int:
    """Zero, which no version has, if it cannot be one."""
    return int(version) if re.fullmatch(r"[0-9]{1,20}", version) else 0


def _tensor(name: str, datatype: str, *sizes: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, *sizes]}


def _only_ready(data: bytes) -> bool:
    wanted = _document(data).get("ready", False)
    if not isinstance(wanted, bool):
        raise ProtocolError(f"'ready' must be true or false, not {json_document.shown(wanted)}")
    return wanted


def _document(data: bytes) -> dict[str, Any]:
    """The object in a body that may be empty."""
    if not data.strip():
        return {}
    asked = json_document.parse(data, Budget.of_pictures(0, (1, 1, 1)))
    if not isinstance(asked, dict):
        raise MalformedBodyError('The request must be an object, as {"ready": true}.')
    return asked


async def _statuses(name: str, serving: Serving, settings: Settings) -> dict[int, Status]:
    if name in serving.models:
        return await serving.models[name].listed()
    published = await asyncio.to_thread(Repository(settings.model_root).versions, name)
    return dict.fromkeys(published, Status(State.AVAILABLE))


def _listed(name: str, number: int, state: State, reason: str) -> dict[str, str]:
    if state is State.AVAILABLE:
        reason = "not loaded"
    return {
        "name": name,
        "version": str(number),
        "state": _STATES.get(state, "UNAVAILABLE"),
        "reason": reason,
    }
