"""`POST /feedback`: what a picture really showed; `GET /feedback/summary`: what that says of versions."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app import errors, estimation
from app.api import body, problems, schemas
from app.api.deadline import MEANINGLESS, deadline
from app.api.deadline import PARAMETER as TIMEOUT
from app.api.dependencies import Feedback, Settings
from app.api.intervals import Estimate, Interval
from app.errors import UploadError
from app.feedback_figures import Figures
from app.feedback_store import Labelled

PATH: Final = "/feedback"
MAX_BYTES: Final = 4096

router = APIRouter(tags=["feedback"])

_STATEMENT: Final = {"request_id": "6f1c2a9be2d84f7d9a55c4d0a7a1e3b2", "label": "dog"}
_OFF: Final = errors.FeedbackOffError(
    "This service takes no feedback: CLASSIFIER_FEEDBACK_FILE names no file."
)
_FAILED: Final = errors.FeedbackStoreError(
    "The file that CLASSIFIER_FEEDBACK_FILE names cannot be used: database or disk is full."
)


class Statement(BaseModel):
    """What a picture really showed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: Annotated[
        str, Field(min_length=1, max_length=128, description="the header X-Request-ID of the answer")
    ]
    label: Annotated[str, Field(max_length=1000, description="the class that is right")]
    index: Annotated[
        int, Field(ge=0, le=2**31, description="place of the picture in a request to /predict/batch")
    ] = 0


class Receipt(BaseModel):
    """What was understood."""

    request_id: str
    index: int
    label: Annotated[str, Field(description="the class that is right")]
    answered: Annotated[str, Field(description="what the answer was")]
    correct: bool
    model: str
    version: str
    replaced: Annotated[bool, Field(description="whether there was feedback on this picture before")]

    @classmethod
    def of(cls, statement: Statement, labelled: Labelled) -> Self:
        return cls(
            request_id=statement.request_id,
            index=statement.index,
            label=labelled.truth,
            answered=labelled.answer,
            correct=labelled.answer == labelled.truth,
            model=labelled.model,
            version=str(labelled.version),
            replaced=labelled.replaced,
        )


class Mistake(BaseModel):
    """How often a class was taken for another."""

    truth: str
    answer: str
    count: int


class VersionFigures(BaseModel):
    """What feedback makes of one version."""

    model: str
    version: str
    pictures: Annotated[int, Field(description="the newest that people labelled, at most 10,000")]
    accuracy: Annotated[Interval, Field(description="share that was right, with its Wilson interval")]
    confidence: Annotated[float, Field(description="mean probability of what was answered")]
    calibration_error: Annotated[
        Estimate, Field(description="how far confidence and accuracy lie apart, in 15 bins; bootstrap")
    ]
    brier: Annotated[
        Estimate, Field(description="squared distance of the probabilities from the truth, 0 to 2; bootstrap")
    ]
    mistakes: Annotated[list[Mistake], Field(description="the most frequent ones first, at most 20")]

    @classmethod
    def of(cls, figures: Figures) -> Self:
        return cls(
            model=figures.model,
            version=str(figures.version),
            pictures=figures.pictures,
            accuracy=Interval.of(figures.accuracy),
            confidence=figures.confidence,
            calibration_error=Estimate.of(figures.calibration_error),
            brier=Estimate.of(figures.brier),
            mistakes=[
                Mistake(truth=each.truth, answer=each.answer, count=each.count) for each in figures.mistakes
            ],
        )


class Summary(BaseModel):
    """One entry per version that has feedback."""

    versions: list[VersionFigures]


_RECEIPT: Final[dict[str, Any]] = {
    **_STATEMENT,
    "index": 0,
    "answered": "cat",
    "correct": False,
    "model": "resnet18-cifar10",
    "version": "1",
    "replaced": False,
}
_SUMMARY: Final[dict[str, Any]] = {
    "versions": [
        {
            "model": "resnet18-cifar10",
            "version": "1",
            "pictures": 120,
            "accuracy": {"value": 0.9, "low": 0.8333, "high": 0.9419},
            "confidence": 0.9123,
            "calibration_error": {"value": 0.041, "low": 0.035, "high": 0.098},
            "brier": {"value": 0.151, "low": 0.104, "high": 0.207},
            "mistakes": [{"truth": "dog", "answer": "cat", "count": 5}],
        }
    ]
}
_ANSWERS: Final = (
    schemas.documented("replaced", {**_RECEIPT, "replaced": True})
    | {
        201: {
            "description": "Created",
            "model": Receipt,
            "content": {"application/json": {"examples": {"a correction": {"value": _RECEIPT}}}},
        }
    }
    | problems.documented(
        UploadError("The request is not valid at label: missing."),
        errors.ParameterError(MEANINGLESS),
        errors.BodyTimeoutError("The body did not arrive within 30 s."),
        errors.BodyTooLargeError("The body may have at most 4,096 bytes; 5000 bytes were announced."),
        errors.UnknownPredictionError("No prediction of this request id is known."),
        errors.UnknownLabelError("The version that answered has no such class. It has: cat, dog."),
        _OFF,
        _FAILED,
        errors.DeadlineError("There was no answer within 30 s."),
    )
)


@router.post(
    PATH,
    summary="Say what a picture really showed",
    response_model=Receipt,
    responses=_ANSWERS,
    openapi_extra={
        "parameters": [TIMEOUT],
        "requestBody": {
            "required": True,
            "description": "The id of the request that was answered, and the class that is right.",
            "content": {
                "application/json": {
                    "schema": Statement.model_json_schema(),
                    "examples": {"a correction": {"value": _STATEMENT}},
                }
            },
        },
        "x-codeSamples": [
            {
                "lang": "curl",
                "source": 'curl -d \'{"request_id": "ID", "label": "dog"}\' http://127.0.0.1:8000/feedback',
            }
        ],
    },
)
async def give(request: Request, feedback: Feedback, settings: Settings) -> Response:
    """Right answers count as much as wrong ones. Who says something else later has the last word.

    201, or 200 if this replaces what was said before. It is kept when the answer comes; no picture is.
    """
    statement = _parsed(await body.read(request, settings.body_timeout_s))
    async with deadline(request, settings):
        labelled = await feedback.give(statement.request_id, statement.index, statement.label)
    receipt = Receipt.of(statement, labelled)
    return Response(
        receipt.model_dump_json(), 200 if labelled.replaced else 201, media_type="application/json"
    )


@router.get(
    f"{PATH}/summary",
    summary="What feedback says of each version",
    responses=schemas.documented("a version", _SUMMARY) | problems.documented(_OFF, _FAILED),
)
async def summary(feedback: Feedback) -> Summary:
    """Accuracy and calibration over the pictures that people labelled, with 95 % confidence intervals.

    People label what strikes them, mistakes above all, so this is not the accuracy over all requests unless
    pictures were chosen at random.
    """
    return Summary(versions=[VersionFigures.of(figures) for figures in await feedback.summary()])


def gauges(feedback: Feedback) -> Iterator[tuple[Mapping[str, str], Mapping[str, float]]]:
    """What `GET /metrics` says of each version: labels, and figures by name."""
    for figures in feedback.figures:
        labels = {"model": figures.model, "version": str(figures.version)}
        values = {"pictures": float(figures.pictures), "confidence_ratio": figures.confidence}
        for name in ("accuracy", "calibration_error", "brier"):
            figure: estimation.Interval | estimation.Estimate = getattr(figures, name)
            unit = "" if name == "brier" else "_ratio"
            values[f"{name}{unit}"] = figure.value
            if figure.low is not None and figure.high is not None:
                values |= {f"{name}_low{unit}": figure.low, f"{name}_high{unit}": figure.high}
        yield labels, values


def _parsed(data: bytes) -> Statement:
    try:
        return Statement.model_validate_json(data)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in wrong["loc"][:2]) or "its beginning"
        raise UploadError(
            f"The request is not valid at {where}: {wrong['type'].replace('_', ' ')}. "
            'Send {"request_id": "...", "label": "..."}.'
        ) from error
