"""Where Open Inference Protocol is found, and what OpenAPI says about it."""

import json
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final

from fastapi import APIRouter, Response

from app import errors
from app.api import deadline, oip, oip_binary, pictures, protocol_docs, schemas, tfserving_routes
from app.api.management import BEARER, NO_KEY
from app.errors import ServiceError

_TAGS: Final[list[str | Enum]] = ["Open Inference Protocol"]
router = APIRouter(tags=_TAGS)
# Part of the description only where a key is set: where none is, they say that they are not offered.
repository = APIRouter(tags=_TAGS, dependencies=[BEARER])

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
_TOO_LONG: Final = f"The body may have at most {REPOSITORY_MAX_BYTES:,} bytes; 70000 bytes were announced."
_REPOSITORY_ERRORS: Final = (
    *(error for error in tfserving_routes.BODY_ERRORS if not isinstance(error, errors.BodyTooLargeError)),
    errors.BodyTooLargeError(_TOO_LONG),
)
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
    headers: Iterable[Mapping[str, Any]] = (),
    **extra: Any,
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
            openapi_extra={**extra, "parameters": [*protocol_docs.path_parameters(**named), *headers]},
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
    headers=(oip_binary.PARAMETER, deadline.PARAMETER),
    requestBody=protocol_docs.body(
        f"JSON; JSON with binary tensors behind it, its length in {oip_binary.HEADER}; or with 0 in that "
        "header, one picture file.",
        {"probabilities": _REQUEST, "best classes": _BEST},
        **{"application/octet-stream": "JSON with binary tensors, or one picture file"},
    ),
    **{
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
        *_REPOSITORY_ERRORS,
    ),
    requestBody={**protocol_docs.body("May be empty.", {"ready": {"ready": True}}), "required": False},
)


def _add_management(action: str, handler: Callable[..., Any], summary: str, *refused: ServiceError) -> None:
    body = protocol_docs.body("May be empty.", {"no parameters": {"parameters": {}}})
    repository.add_api_route(
        f"{REPOSITORY}models/{{name:segment}}/{action}",
        handler,
        methods=["POST"],
        summary=f"Open Inference Protocol: {summary}",
        response_class=Response,
        responses={
            200: {"description": "Done; there is no body."},
            **protocol_docs.refusals(errors.UnauthorizedError(NO_KEY), *refused, *_REPOSITORY_ERRORS),
        },
        openapi_extra={
            "parameters": protocol_docs.path_parameters(name="name of the model"),
            "requestBody": {**body, "required": False},
            "x-codeSamples": protocol_docs.curl(
                'curl -X POST -H "Authorization: Bearer $KEY" '
                f"http://127.0.0.1:8000{REPOSITORY}models/resnet18-cifar10/{action}"
            ),
        },
    )


_NO_PARAMETER: Final = errors.ProtocolError(
    "The parameter 'config' is not taken: a model is served as it was published."
)
_add_management(
    "load",
    oip.load,
    "load a model",
    _NO_PARAMETER,
    errors.UnknownModelError("No model 'resnet50' is published here."),
    errors.UnsoundVersionError("resnet18-cifar10 version 3 is damaged: golden.npz is missing."),
)
_add_management(
    "unload",
    oip.unload,
    "unload a model",
    _NO_PARAMETER,
    errors.UnknownModelError("There is no model 'resnet50' here; there is: resnet18-cifar10."),
    errors.ConflictError("resnet18-cifar10 is the default model of this service and stays in memory."),
)
