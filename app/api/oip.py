"""`/v2`: Open Inference Protocol, version 2, over REST, for the clients of Triton, KServe and their like."""

import asyncio
import json
from functools import partial
from typing import Any, Final

from fastapi import Request, Response

from app import __version__
from app.api import body, content_encoding, json_document, oip_binary, oip_response, pictures
from app.api.deadline import deadline
from app.api.dependencies import Decoder, Serving, Settings
from app.api.json_document import Budget
from app.api.oip_request import Contract
from app.api.pictures import ENCODED, PIXELS, PROBABILITIES, SCORE
from app.errors import (
    MalformedBodyError,
    NotReadyError,
    ProtocolError,
    UnknownModelError,
    UnsupportedOperationError,
)
from app.manifest import Manifest
from app.repository import Repository
from app.serving import Model, State

SERVER: Final = {
    "name": "image-classification-service",
    "version": __version__,
    "extensions": ["binary_tensor_data", "classification"],
}
_PLATFORMS: Final = {"tensorflow": "tensorflow_savedmodel", "openvino": "openvino_ir"}
_SHOWN: Final = 200


async def server() -> dict[str, Any]:
    """Name, version, and the extensions that are understood."""
    return SERVER


async def live() -> dict[str, bool]:
    """Answers as long as the event loop turns."""
    return {"live": True}


async def ready(serving: Serving) -> dict[str, bool]:
    """200 once a version is loaded, proven and warm; 503 and the reason before that and in shutdown."""
    if serving.state is not State.READY:
        raise NotReadyError(serving.reason)
    return {"ready": True}


async def model_ready(request: Request, serving: Serving, settings: Settings) -> dict[str, Any]:
    """Whether this version answers; 503 and the reason if it does not now, 404 if it is not known."""
    model = _asked(request, serving, settings)
    await ready(serving)
    return {"name": model.manifest.name, "ready": True}


async def metadata(request: Request, serving: Serving, settings: Settings) -> dict[str, Any]:
    """Names, types and shapes of what goes in and comes out; a request gives exactly one of the inputs."""
    model = _asked(request, serving, settings)
    return described(model.manifest, model.engine.name)


def described(manifest: Manifest, engine: str) -> dict[str, Any]:
    """The metadata of a version."""
    size = manifest.input
    return {
        "name": manifest.name,
        "versions": [str(manifest.version)],
        "platform": _PLATFORMS.get(engine, engine),
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
    with _asked(request, serving, settings).held() as model:
        data = await body.read(request, settings.body_timeout_s)
        header = request.headers.get(oip_binary.HEADER)
        parse = partial(Contract(model.manifest, settings.queue_pictures).parse, header=header)
        async with deadline(request, settings):
            asked = await body.parsed(request, data, settings, parse)
            prediction = await pictures.answer(asked.pictures, model, decoder, settings, asked.fit)
        response = oip_response.infer(asked, prediction, model.manifest)
    return content_encoding.compress(response, request.headers.get("accept-encoding", ""))


async def index(request: Request, serving: Serving, settings: Settings) -> Response:
    """Every published version, and which of them answers."""
    data = await body.read(request, settings.body_timeout_s)
    only_ready = await body.parsed(request, data, settings, _only_ready)
    versions = await asyncio.to_thread(_published, Repository(settings.model_root))
    current = serving.live.manifest if serving.state is State.READY else None
    listed = [_listed(name, number, current) for name, number in versions]
    return Response(
        json.dumps([entry for entry in listed if entry["state"] == "READY" or not only_ready]),
        media_type="application/json",
    )


async def manage() -> Response:
    """Refused: which version is served is decided where the service is started."""
    raise UnsupportedOperationError(
        "Models are not loaded and unloaded over HTTP here: this server does not have the extension "
        "model_repository. The setting CLASSIFIER_MODEL_VERSION says which version is served."
    )


def _asked(request: Request, serving: Serving, settings: Settings) -> Model:
    return find(request.path_params["name"], request.path_params.get("version"), serving, settings)


def find(name: str, version: str | None, serving: Serving, settings: Settings) -> Model:
    """The model of this name, in this version if one is asked for.

    Raises:
        UnknownModelError: it is not what is served.
        NotReadyError: it does not answer now.
    """
    if name == settings.model_name:
        live_model = serving.live
        if version is None or version.lstrip("0") == str(live_model.manifest.version):
            return live_model
    wanted = f"'{name[:_SHOWN]}'" + ("" if version is None else f" version {version[:_SHOWN]}")
    raise UnknownModelError(f"Request for unknown model: {wanted} is not found")


def _tensor(name: str, datatype: str, *sizes: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, *sizes]}


def _only_ready(data: bytes) -> bool:
    if not data.strip():
        return False
    asked = json_document.parse(data, Budget.of_pictures(0, (1, 1, 1)))
    if not isinstance(asked, dict):
        raise MalformedBodyError('The request must be an object, as {"ready": true}.')
    wanted = asked.get("ready", False)
    if not isinstance(wanted, bool):
        raise ProtocolError(f"'ready' must be true or false, not {json_document.shown(wanted)}")
    return wanted


def _published(repository: Repository) -> list[tuple[str, int]]:
    return [(name, number) for name in repository.names() for number in repository.versions(name)]


def _listed(name: str, number: int, current: Manifest | None) -> dict[str, str]:
    is_live = current is not None and (current.name, current.version) == (name, number)
    state, reason = ("READY", "") if is_live else ("UNAVAILABLE", "not loaded")
    return {"name": name, "version": str(number), "state": state, "reason": reason}
