"""Where TensorFlow Serving's interface is found, and what OpenAPI says about it."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter
from starlette.convertors import StringConvertor, register_url_convertor

from app import errors
from app.api import deadline, pictures, protocol_docs, schemas, tfserving, tfserving_metadata

PICTURE: Final = "R0lGODdhAgACAIEAAP8AAAAAAAAAAAAAACwAAAAAAgACAAAIBgABCAQQEAA7"
_PICTURE: Final = {"b64": PICTURE}
_PLACES: Final[Mapping[str, Mapping[str, str]]] = {
    "": {},
    "/versions/{version:digits}": {"version": "number of a version"},
    "/labels/{label:segment}": {"label": "label of a version"},
}
_NOT_FOUND: Final = errors.UnknownModelError("Servable not found for request: Latest(resnet50)")
_NO_REGRESSION: Final = errors.ProtocolError("resnet18-cifar10 classifies; use :predict or :classify.")
_BAD_LABEL: Final = errors.ProtocolError("Unrecognized servable version label: stable")
_LOADING: Final = errors.NotReadyError("The model resnet18-cifar10 is being loaded.")
BODY_ERRORS: Final = (
    errors.MalformedBodyError("JSON Parse error: The document is empty"),
    errors.BodyTimeoutError("The body did not arrive within 30 s."),
    errors.BodyTooLargeError("The body may have at most 20,971,520 bytes; it expands to more."),
    errors.MediaTypeError("The Content-Encoding 'br' is not understood here; use gzip, deflate or none."),
)
PREDICT_ERRORS: Final = (
    errors.ProtocolError("Missing 'inputs' or 'instances' key"),
    errors.ParameterError(deadline.MEANINGLESS),
    _NOT_FOUND,
    *BODY_ERRORS,
    errors.EngineError("The engine failed on this picture."),
    _LOADING,
    errors.OverloadedError("256 pictures wait for the model and at most 256 may; this request adds 1."),
    errors.DeadlineError("There was no answer within 30 s."),
)
_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"]


class _Segment(StringConvertor):
    regex = "[^/:]+"


class _Digits(StringConvertor):
    regex = "[0-9]+"


register_url_convertor("segment", _Segment())
register_url_convertor("digits", _Digits())


router = APIRouter(tags=["TensorFlow Serving"])


def _add(
    method: str, ending: str, handler: Callable[..., Any], summary: str, **documentation: dict[Any, Any]
) -> None:
    for place, meaning in _PLACES.items():
        extra = documentation.get("extra", {})
        named = protocol_docs.path_parameters(name="name of the model", **meaning)
        router.add_api_route(
            f"/v1/models/{{name:segment}}{place}{ending}",
            handler,
            methods=[method],
            summary=summary,
            responses=documentation["responses"],
            openapi_extra=extra | {"parameters": [*named, *extra.get("parameters", ())]},
        )


_add(
    "POST",
    ":predict",
    tfserving.predict,
    "TensorFlow Serving: predict",
    responses=protocol_docs.answers(
        {
            "instances": {"predictions": [list(schemas.PROBABILITIES.values())]},
            "inputs": {"outputs": [list(schemas.PROBABILITIES.values())]},
        },
        *PREDICT_ERRORS,
    ),
    extra={
        "parameters": [deadline.PARAMETER],
        "requestBody": protocol_docs.body(
            "Encoded pictures as base64, or pixels as nested lists of whole numbers from 0 to 255.",
            {
                "instances": {"instances": [_PICTURE]},
                "named": {"instances": [{pictures.ENCODED: _PICTURE}]},
                "inputs": {"inputs": {pictures.ENCODED: [_PICTURE]}},
                "scored": {"signature_name": "scored", "instances": [_PICTURE]},
            },
        ),
        "x-codeSamples": protocol_docs.curl(
            f"curl -d '{json.dumps({'instances': [_PICTURE]})}' "
            "http://127.0.0.1:8000/v1/models/resnet18-cifar10:predict"
        ),
    },
)
_add(
    "POST",
    ":classify",
    tfserving.classify,
    "TensorFlow Serving: classify",
    responses=protocol_docs.answers(
        {"results": {"results": [[list(pair) for pair in schemas.PROBABILITIES.items()]]}}, *PREDICT_ERRORS
    ),
    extra={
        "parameters": [deadline.PARAMETER],
        "requestBody": protocol_docs.body(
            "Examples with the feature `image_bytes` (base64) or `images` (pixels).",
            {"examples": {"examples": [{pictures.ENCODED: _PICTURE}]}},
        ),
    },
)
_add(
    "POST",
    ":regress",
    tfserving.regress,
    "TensorFlow Serving: regress (always refused)",
    responses=protocol_docs.answers({}, _NOT_FOUND, _BAD_LABEL, _NO_REGRESSION, _LOADING),
    extra={},
)
_add(
    "GET",
    "",
    tfserving.status,
    "TensorFlow Serving: state of the versions",
    responses=protocol_docs.answers(
        {"available": tfserving_metadata.status({1: ("AVAILABLE", "")})},
        errors.UnknownModelError("Could not find any versions of model resnet50"),
        _BAD_LABEL,
    ),
)
_add(
    "GET",
    "/metadata",
    tfserving.metadata,
    "TensorFlow Serving: signatures",
    responses=protocol_docs.answers({}, _NOT_FOUND, _BAD_LABEL, _LOADING),
)
for _path in ("/v1/models", "/v1/models/"):
    router.add_api_route(_path, tfserving.without_name, include_in_schema=False)
for _path in ("/v1", "/v1/{rest:path}"):
    router.add_route(_path, tfserving.malformed, _METHODS, include_in_schema=False)
