"""Where Open Inference Protocol is found, and what OpenAPI says about it."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter

from app import errors
from app.api import oip, oip_binary, pictures, protocol_docs, schemas, tfserving_routes

router = APIRouter(tags=["Open Inference Protocol"])

REPOSITORY: Final = "/v2/repository/"  # what is asked for there carries no pictures
REPOSITORY_MAX_BYTES: Final = 64 * 1024
_MODEL: Final = "/v2/models/{name:segment}"
_PLACES: Final[Mapping[str, Mapping[str, str]]] = {
    "": {},
    "/versions/{version:digits}": {"version": "number of a version"},
}
_NOT_FOUND: Final = errors.UnknownModelError("Request for unknown model: 'resnet50' is not found")
_LOADING: Final = errors.NotReadyError("The model resnet18-cifar10 is being loaded.")
_TENSOR: Final = {
    "name": pictures.ENCODED,
    "shape": [1],
    "datatype": "BYTES",
    "parameters": {"content_type": "base64"},
    "data": [tfserving_routes.PICTURE],
}
_REQUEST: Final = {"id": "1", "inputs": [_TENSOR], "outputs": [{"name": pictures.PROBABILITIES}]}
_ANSWER: Final = {
    "model_name": "resnet18-cifar10",
    "model_version": "1",
    "id": "1",
    "outputs": [
        {
            "name": pictures.PROBABILITIES,
            "shape": [1, len(schemas.PROBABILITIES)],
            "datatype": "FP32",
            "data": list(schemas.PROBABILITIES.values()),
        }
    ],
}
_BEST: Final = {
    "inputs": [_TENSOR],
    "outputs": [{"name": pictures.PROBABILITIES, "parameters": {"classification": 2}}],
}
_INFER_ERRORS: Final = (
    errors.ProtocolError('unexpected inference output "label"'),
    *(error for error in tfserving_routes.PREDICT_ERRORS if not isinstance(error, errors.ProtocolError)),
    _NOT_FOUND,
)


def _add(
    method: str,
    path: str,
    handler: Callable[..., Any],
    summary: str,
    responses: dict[int | str, dict[str, Any]],
    extra: Mapping[str, Any] | None = None,
) -> None:
    places = _PLACES if path.startswith(_MODEL) else {"": {}}
    for place, meaning in places.items():
        named = {"name": "name of the model", **meaning} if "{name" in path else meaning
        router.add_api_route(
            path.replace(_MODEL, _MODEL + place),
            handler,
            methods=[method],
            summary=f"Open Inference Protocol: {summary}",
            response_model=None,
            responses=responses,
            openapi_extra={**(extra or {}), "parameters": protocol_docs.path_parameters(**named)},
        )


_add("GET", "/v2", oip.server, "the server", protocol_docs.answers({"server": oip.SERVER}))
router.add_api_route("/v2/", oip.server, include_in_schema=False)
_add("GET", "/v2/health/live", oip.live, "is it alive?", protocol_docs.answers({"live": {"live": True}}))
_add(
    "GET",
    "/v2/health/ready",
    oip.ready,
    "can it answer?",
    protocol_docs.answers({"ready": {"ready": True}}, _LOADING),
)
_add(
    "GET",
    f"{_MODEL}/ready",
    oip.model_ready,
    "can this model answer?",
    protocol_docs.answers({"ready": {"name": "resnet18-cifar10", "ready": True}}, _NOT_FOUND, _LOADING),
)
_add(
    "GET",
    _MODEL,
    oip.metadata,
    "a model's inputs and outputs",
    protocol_docs.answers({}, _NOT_FOUND, _LOADING),
)
_add(
    "POST",
    f"{_MODEL}/infer",
    oip.infer,
    "infer",
    protocol_docs.answers({"probabilities": _ANSWER}, *_INFER_ERRORS),
    {
        "requestBody": protocol_docs.body(
            f"JSON; JSON with binary tensors behind it, its length in {oip_binary.HEADER}; or with 0 in that "
            "header, one picture file.",
            {"probabilities": _REQUEST, "best classes": _BEST},
            **{"application/octet-stream": "JSON with binary tensors, or one picture file"},
        ),
        "x-codeSamples": protocol_docs.curl(
            f"curl -d '{json.dumps(_REQUEST)}' http://127.0.0.1:8000/v2/models/resnet18-cifar10/infer",
            f"curl --data-binary @cat.jpg -H '{oip_binary.HEADER}: 0' "
            "http://127.0.0.1:8000/v2/models/resnet18-cifar10/infer --output answer",
        ),
    },
)
_add(
    "POST",
    f"{REPOSITORY}index",
    oip.index,
    "published versions and their states",
    protocol_docs.answers(
        {"index": [{"name": "resnet18-cifar10", "version": "1", "state": "READY", "reason": ""}]},
        errors.ProtocolError("'ready' must be true or false, not 1"),
    ),
    {"requestBody": {**protocol_docs.body("May be empty.", {"ready": {"ready": True}}), "required": False}},
)
for _action, _handler in {"load": oip.load, "unload": oip.unload}.items():
    # Not in the description, since they are offered only where a key is set.
    router.add_api_route(
        f"{REPOSITORY}models/{{name:segment}}/{_action}",
        _handler,
        methods=["POST"],
        include_in_schema=False,
    )
