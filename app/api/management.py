"""Calls that change which versions are in memory and which one answers; they exist where a key is set."""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from fastapi import APIRouter, Request, Security
from fastapi.security import HTTPBearer

from app import errors, management
from app.api import body, json_document, problems, protocol_docs, schemas
from app.api.dependencies import Serving, Settings
from app.api.json_document import Budget
from app.api.models import EXAMPLE, ModelSummary
from app.deployment import LABEL_PATTERN
from app.errors import (
    LabelNotFoundError,
    ModelError,
    ModelNotFoundError,
    ParameterError,
    UnauthorizedError,
    UnknownModelError,
    UnsoundVersionError,
    VersionNotFoundError,
)

# Says in the description that a call needs the key; `check_key` is what refuses, in words of ours.
BEARER: Final = Security(
    HTTPBearer(
        scheme_name="admin_key",
        description="The key in CLASSIFIER_ADMIN_KEY, as `Authorization: Bearer KEY`.",
        auto_error=False,
    )
)

router = APIRouter(tags=["management"], dependencies=[BEARER])

_NEWEST: Final = "latest"
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
_MODEL: Final = "/models/{name}"
_VERSION: Final = f"{_MODEL}/versions/{{version}}"
_LABEL: Final = f"{_MODEL}/labels/{{label}}"
_HOW: Final = 'Send {"version": 2}, or "latest" for live, to let the newest version answer again.'
_MEANINGS: Final[Mapping[str, str]] = {
    "name": "name of the model",
    "version": "number of a version",
    "label": "a word of at most 100 letters, digits, '.', '_' and '-'",
}
NO_KEY: Final = (
    "This call manages models and needs the header 'Authorization: Bearer KEY' with the key of the service."
)


def check_key(request: Request, settings: Settings) -> None:
    """Passes whoever shows the key; takes the same time however much of it is right.

    Raises:
        UnauthorizedError: the request does not.
    """
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    key = settings.admin_key.get_secret_value() if settings.admin_key else ""
    is_right = hmac.compare_digest(_digest(shown.strip().encode("latin-1")), _digest(key.encode()))
    if not (is_right and key and scheme.lower() == "bearer"):
        raise UnauthorizedError(NO_KEY)


@contextmanager
def told() -> Iterator[None]:
    """Says what a model or version lacks as an answer to the call that asked for it.

    Raises:
        UnknownModelError: it is not there.
        UnsoundVersionError: it cannot serve.
    """
    try:
        yield
    except (ModelNotFoundError, VersionNotFoundError) as error:
        raise UnknownModelError(str(error)) from error
    except LabelNotFoundError:
        raise
    except ModelError as error:
        raise UnsoundVersionError(str(error)) from error


async def promote(request: Request, serving: Serving, settings: Settings) -> ModelSummary:
    """Makes a version answer what names none, from the next request on: to promote and to roll back alike.

    It is loaded first if it is not in memory, before any other, and proven like any other; until then, and if
    that fails, the one before goes on answering. What is decided about that meanwhile calls it off. The
    decision is written to `serving.json` in the folder of the model.
    """
    check_key(request, settings)
    wanted = await _wanted(request, settings)
    with told():
        versions = serving.versions(request.path_params["name"])
        await management.promote(versions, None if wanted == _NEWEST else _number(wanted))
        return await ModelSummary.of(versions)


async def load(request: Request, serving: Serving, settings: Settings) -> ModelSummary:
    """Keeps a version in memory besides the live one, for those who ask for it by number or label."""
    check_key(request, settings)
    number = _number(request.path_params["version"])
    with told():
        versions = await serving.adopt(request.path_params["name"])
        await management.load(versions, number)
        return await ModelSummary.of(versions)


async def unload(request: Request, serving: Serving, settings: Settings) -> ModelSummary:
    """Takes a version out of memory when its last request is answered, unless it is live or labelled."""
    check_key(request, settings)
    number = _number(request.path_params["version"])
    with told():
        versions = serving.versions(request.path_params["name"])
        await management.unload(versions, number)
        return await ModelSummary.of(versions)


async def set_label(request: Request, serving: Serving, settings: Settings) -> ModelSummary:
    """Points a label, new or old, to a version that is ready."""
    check_key(request, settings)
    label = request.path_params["label"]
    if not re.fullmatch(LABEL_PATTERN, label):
        raise ParameterError(f"A label is {_MEANINGS['label']}, and begins with a letter or digit.")
    number = _number(await _wanted(request, settings))
    with told():
        versions = serving.versions(request.path_params["name"])
        await management.set_label(versions, label, number)
        return await ModelSummary.of(versions)


async def remove_label(request: Request, serving: Serving, settings: Settings) -> ModelSummary:
    """Forgets a label; the version that it points to goes unless something else keeps it."""
    check_key(request, settings)
    with told():
        versions = serving.versions(request.path_params["name"])
        await management.remove_label(versions, request.path_params["label"])
        return await ModelSummary.of(versions)


async def _wanted(request: Request, settings: Settings) -> object:
    """The version that the body names."""
    data = await body.read(request, settings.body_timeout_s)
    document = json_document.parse(data, Budget.of_pictures(0, (1, 1, 1)))
    if not isinstance(document, dict) or list(document) != ["version"]:
        raise ParameterError(f"The body must be an object with a version. {_HOW}")
    return document["version"]


def _number(version: object) -> int:
    if isinstance(version, bool) or not _NUMBER.fullmatch(str(version)):
        raise ParameterError(
            f"A version is a whole number from 1, not {json_document.shown(version)}. {_HOW}"
        )
    return int(str(version))


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _add(method: str, path: str, handler: Callable[..., Any], summary: str, **more: Any) -> None:
    refusals = (
        UnauthorizedError(NO_KEY),
        ParameterError(f"A version is a whole number from 1, not one. {_HOW}"),
        errors.MalformedBodyError("JSON Parse error: The document is empty"),
        errors.BodyTimeoutError("The body did not arrive within 30 s.", limit=30),
        errors.BodyTooLargeError("The body may have at most 20,971,520 bytes.", limit=20_971_520),
        UnknownModelError("resnet18-cifar10 has no version 9 in model; there is: 1, 2."),
        LabelNotFoundError("resnet18-cifar10 has no label 'canary'."),
        errors.ConflictError("resnet18-cifar10 version 2 is live; make another one live first."),
        UnsoundVersionError("resnet18-cifar10 version 3 is damaged: golden.npz is missing."),
    )
    named = {name: _MEANINGS[name] for name in re.findall(r"\{(\w+)", path)}
    router.add_api_route(
        path,
        handler,
        methods=[method],
        summary=summary,
        responses=schemas.documented("the model", EXAMPLE) | problems.documented(*refusals),
        openapi_extra={"parameters": protocol_docs.path_parameters(**named), **more},
    )


def _sample(method: str, path: str, data: str = "") -> list[dict[str, str]]:
    sent = f" -d '{data}'" if data else ""
    return protocol_docs.curl(
        f'curl -X {method} -H "Authorization: Bearer $KEY"{sent} http://127.0.0.1:8000/models/resnet18-cifar10/{path}'
    )


_BODY: Final = protocol_docs.body(_HOW, {"a version": {"version": 2}})
_add(
    "PUT",
    f"{_MODEL}/live",
    promote,
    "Promote or roll back",
    requestBody=_BODY,
    **{"x-codeSamples": _sample("PUT", "live", '{"version": 2}')},
)
_add(
    "POST",
    f"{_VERSION}/load",
    load,
    "Load a version",
    **{"x-codeSamples": _sample("POST", "versions/2/load")},
)
_add(
    "POST",
    f"{_VERSION}/unload",
    unload,
    "Unload a version",
    **{"x-codeSamples": _sample("POST", "versions/1/unload")},
)
_add(
    "PUT",
    _LABEL,
    set_label,
    "Point a label to a version",
    requestBody=_BODY,
    **{"x-codeSamples": _sample("PUT", "labels/canary", '{"version": 2}')},
)
_add(
    "DELETE",
    _LABEL,
    remove_label,
    "Forget a label",
    **{"x-codeSamples": _sample("DELETE", "labels/canary")},
)
