"""`GET /models/{name}/versions/{version}`: the card of a version, as JSON or as a page."""

import asyncio
import logging
import re
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from app.api import card_page, problems, protocol_docs, schemas
from app.api.accept import prefers_html
from app.api.dependencies import Settings
from app.api.page import page
from app.api.version_card import VersionCard
from app.errors import DamagedVersionError, ManifestError, UnknownModelError, VersionNotFoundError
from app.manifest import Manifest
from app.repository import Repository

router = APIRouter(tags=["models"])

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_LOG: Final = logging.getLogger(__name__)
_EXAMPLE: Final[dict[str, Any]] = {
    "name": "resnet18-cifar10",
    "version": "1",
    "created": "2026-11-24T14:57:11Z",
    "class_names": ["cat", "dog"],
    "input": {"height": 32, "width": 32, "channels": 3},
    "weights": "7ac64cf5a3ec" + 52 * "0",
    "measurements": [
        {
            "metric": "accuracy",
            "data": "CIFAR-10 test",
            "value": 0.95,
            "pictures": 100,
            "engine": "openvino",
            "precision": "int8",
        }
    ],
    "evaluation": {
        "data": "CIFAR-10 test",
        "engine": "openvino",
        "precision": "int8",
        "confusion": [[48, 2], [3, 47]],
        "reliability": [{"confidence": 0.94, "accuracy": 0.95, "pictures": 100}],
    },
    "classes": [
        {"label": "cat", "pictures": 50, "recall": 0.96, "precision": 0.9412},
        {"label": "dog", "pictures": 50, "recall": 0.94, "precision": 0.9592},
    ],
    "calibration": {
        "temperature": 1.2,
        "conformal_thresholds": [{"coverage": 0.95, "threshold": 0.11}],
        "ood_threshold": 1.67,
    },
    "golden_tolerance": {"int8": 0.3},
    "lineage": {"recipe": "quick"},
    "files": {"saved_model.pb": {"sha256": 64 * "0", "bytes": 585880}},
}

_PAGE: Final = {"schema": {"type": "string"}, "examples": {"a page": {"value": "<!doctype html>"}}}
_ANSWERS: Final = schemas.documented("a card", _EXAMPLE) | problems.documented(
    UnknownModelError("There is no such version. GET /models lists what is published."),
    DamagedVersionError("The manifest of resnet18-cifar10 version 1 cannot be used."),
)
_ANSWERS[200]["content"]["text/html"] = _PAGE


@router.get(
    "/models/{name}/versions/{version}",
    summary="What a version is worth and how it came to be",
    response_model=VersionCard,
    responses=_ANSWERS,
    openapi_extra={
        "parameters": protocol_docs.path_parameters(name="name of the model", version="number of the version")
    },
)
async def card(request: Request, settings: Settings) -> Response:
    """JSON, or a page where `Accept` puts `text/html` first. Every published version has one, live or not.

    What was not measured when the version was published is null.
    """
    repository = Repository(settings.model_root)
    name, version = request.path_params["name"], request.path_params["version"]
    found = VersionCard.of(await asyncio.to_thread(_stated, repository, name, version))
    if prefers_html(request):
        answer: Response = page(f"{found.name} version {found.version}", card_page.body(found))
    else:
        answer = Response(found.model_dump_json(), media_type="application/json")
    answer.headers["Vary"] = "Accept"
    return answer


def _stated(repository: Repository, name: str, version: str) -> Manifest:
    try:
        if not _NUMBER.fullmatch(version):
            raise VersionNotFoundError("A version is a number.")
        return repository.stated(name, int(version))
    except VersionNotFoundError as error:
        raise UnknownModelError("There is no such version. GET /models lists what is published.") from error
    except ManifestError as error:
        # The error names a path of this machine, which is no business of a caller.
        _LOG.error("%s", error)
        raise DamagedVersionError(
            f"The manifest of {name} version {version} cannot be used; the log of the service says why. "
            "Publish the version again."
        ) from error
