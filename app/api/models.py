"""`/models`: which versions there are, what each is doing, and which one answers."""

import asyncio
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, Field

from app.api import schemas
from app.api.dependencies import Serving
from app.errors import ManifestError, VersionNotFoundError
from app.manifest import Manifest
from app.model import State
from app.residents import Status
from app.versions import Versions

router = APIRouter(tags=["models"])

EXAMPLE: Final[dict[str, Any]] = {
    "name": "resnet18-cifar10",
    "live": "2",
    "pinned": False,
    "labels": {"stable": "2"},
    "persisted": True,
    "problem": "",
    "versions": [
        {
            "version": "1",
            "state": "available",
            "reason": "",
            "live": False,
            "created": "2026-11-24T14:57:11Z",
            "accuracy": 0.8938,
            "engine": None,
            "precision": None,
        },
        {
            "version": "2",
            "state": "ready",
            "reason": "",
            "live": True,
            "created": "2026-11-25T09:12:40Z",
            "accuracy": 0.9512,
            "engine": "openvino",
            "precision": "int8",
        },
    ],
}


class VersionSummary(BaseModel):
    """One version, in memory or on disk."""

    version: str
    state: Annotated[State, Field(description="available means: on disk, and nobody asked for it")]
    reason: Annotated[str, Field(description="what is wrong with it, in a sentence")]
    live: Annotated[bool, Field(description="whether it answers what names no version")]
    created: Annotated[AwareDatetime | None, Field(description="when it was published")]
    accuracy: Annotated[
        float | None,
        Field(description="measured, on the engine that runs it or else the first that was measured"),
    ]
    engine: Annotated[str | None, Field(description="the library that runs it, if it is in memory")]
    precision: Annotated[str | None, Field(description="what it computes in, if it is in memory")]


class ModelSummary(BaseModel):
    """One model and its versions, ascending."""

    name: str
    live: Annotated[str | None, Field(description="the version that answers what names none")]
    pinned: Annotated[bool, Field(description="whether newer versions have to wait until somebody decides")]
    labels: Annotated[dict[str, str], Field(description="the version that each label points to")]
    persisted: Annotated[bool, Field(description="whether a restart keeps what was decided by calls")]
    problem: Annotated[str, Field(description="what is wrong with its serving.json, in a sentence")]
    versions: list[VersionSummary]

    @classmethod
    async def of(cls, versions: Versions) -> Self:
        """What there is now, on disk too."""
        statuses = await versions.listed()
        manifests = await asyncio.to_thread(_manifests, versions, list(statuses))
        listed = [
            _summary(versions, number, status, manifests.get(number)) for number, status in statuses.items()
        ]
        return cls(
            name=versions.name,
            live=next((one.version for one in listed if one.live), None),
            pinned=(versions.pinned or versions.decisions.live) is not None,
            labels={label: str(number) for label, number in versions.labels.items()},
            persisted=versions.persisted,
            problem=versions.problem,
            versions=listed,
        )


class ModelList(BaseModel):
    """Every model that is served, the default one first."""

    models: list[ModelSummary]


@router.get(
    "/models",
    summary="Models and their versions",
    responses=schemas.documented("models", {"models": [EXAMPLE]}),
)
async def models(serving: Serving) -> ModelList:
    """What `state` means: `available` (on disk), `loading`, `ready`, `draining` (being closed), `failed`."""
    return ModelList(models=[await ModelSummary.of(versions) for versions in list(serving.models.values())])


def _manifests(versions: Versions, numbers: list[int]) -> dict[int, Manifest]:
    """Of versions in memory, what was loaded; of others, what the file says, if it can be read."""
    found = {}
    for number in numbers:
        try:
            found[number] = versions.stated(number)
        except (ManifestError, VersionNotFoundError):
            continue
    return found


def _summary(versions: Versions, number: int, status: Status, stated: Manifest | None) -> VersionSummary:
    model = versions.residents.ready.get(number)
    accuracy = model.accuracy if model else _first_accuracy(stated)
    return VersionSummary(
        version=str(number),
        state=status.state,
        reason=status.reason,
        live=versions.is_live(number),
        created=stated.created if stated else None,
        accuracy=accuracy,
        engine=model.engine.name if model else None,
        precision=model.engine.precision if model else None,
    )


def _first_accuracy(stated: Manifest | None) -> float | None:
    measurements = stated.measurements if stated else ()
    return next((each.value for each in measurements if each.metric == "accuracy"), None)
