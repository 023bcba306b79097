"""`GET /models/{name}/compare`: how the shadow's answers agree with those of the live version."""

from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, BaseModel, Field

from app.api import problems, protocol_docs, schemas
from app.api.dependencies import Serving, Shadow
from app.api.intervals import Interval
from app.errors import ModelNotFoundError, NotReadyError, UnknownModelError
from app.shadow import Comparison
from app.versions import Versions

router = APIRouter(tags=["models"])

_EXAMPLE: Final[dict[str, Any]] = {
    "name": "resnet18-cifar10",
    "live": "1",
    "shadow": "2",
    "share": 0.1,
    "reason": "",
    "since": "2026-11-24T14:57:11Z",
    "pictures": 1000,
    "agreement": {"value": 0.953, "low": 0.9381, "high": 0.9644},
    "disagreements": [{"live": "cat", "shadow": "dog", "count": 18}],
    "dropped": 2,
    "failed": 0,
}


class Disagreement(BaseModel):
    """How often the live version said one thing and the shadow another."""

    live: str
    shadow: str
    count: int


class ComparisonAnswer(BaseModel):
    """The live version and its shadow, on the pictures that both have answered."""

    name: str
    live: Annotated[str | None, Field(description="the version that answers")]
    shadow: Annotated[str | None, Field(description="the version that looks at the same pictures")]
    share: Annotated[float, Field(description="of the pictures, how many the shadow is to look at")]
    reason: Annotated[str, Field(description="why nothing is compared now, in a sentence")]
    since: Annotated[AwareDatetime | None, Field(description="when the two were first compared")]
    pictures: Annotated[int, Field(description="that both have answered")]
    agreement: Annotated[
        Interval | None, Field(description="share with the same label, and its Wilson interval")
    ]
    disagreements: Annotated[list[Disagreement], Field(description="the most frequent first, at most 100")]
    dropped: Annotated[int, Field(description="pictures for which there was no time")]
    failed: Annotated[int, Field(description="pictures on which the shadow failed; the answers were given")]

    @classmethod
    def of(cls, versions: Versions, shadow: Shadow) -> Self:
        is_compared = shadow.number is not None and versions.shadow == shadow.number
        comparison = shadow.comparison if is_compared else Comparison()
        agreement = comparison.agreement
        return cls(
            name=versions.name,
            live=_live(versions),
            shadow=str(shadow.number) if is_compared else None,
            share=shadow.share,
            reason=shadow.reason if is_compared else "No shadow is set for this model.",
            since=comparison.since if comparison.pictures else None,
            pictures=comparison.pictures,
            agreement=None if agreement is None else Interval.of(agreement),
            disagreements=[
                Disagreement(live=each.live, shadow=each.shadow, count=each.count)
                for each in comparison.disagreements
            ],
            dropped=comparison.dropped,
            failed=comparison.failed,
        )


@router.get(
    "/models/{name}/compare",
    summary="How the shadow agrees with the live version",
    response_model=ComparisonAnswer,
    responses=schemas.documented("two versions", _EXAMPLE)
    | problems.documented(UnknownModelError("There is no such model. GET /models lists what is served.")),
    openapi_extra={"parameters": protocol_docs.path_parameters(name="name of the model")},
)
async def compare(request: Request, serving: Serving, shadow: Shadow) -> ComparisonAnswer:
    """Counted in this process since the two stand side by side; predictions go first, so some are dropped."""
    try:
        versions = serving.versions(request.path_params["name"])
    except ModelNotFoundError as error:
        raise UnknownModelError("There is no such model. GET /models lists what is served.") from error
    return ComparisonAnswer.of(versions, shadow)


def _live(versions: Versions) -> str | None:
    try:
        return str(versions.live.manifest.version)
    except NotReadyError:
        return None
