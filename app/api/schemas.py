"""What the service answers, as documents. Fields are added over time; none is renamed or removed."""

import base64
from io import BytesIO
from typing import Annotated, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from app.api.problems import Problem

PROBABILITIES: Final = {
    "airplane": 0.0004,
    "automobile": 0.0001,
    "bird": 0.0031,
    "cat": 0.9731,
    "deer": 0.0018,
    "dog": 0.0162,
    "frog": 0.0037,
    "horse": 0.0009,
    "ship": 0.0004,
    "truck": 0.0003,
}
CLASSIFICATION: Final[dict[str, Any]] = {
    "label": "cat",
    "class_id": 3,
    "probability": 0.9731,
    "probabilities": PROBABILITIES,
    "confidence_set": {"coverage": 0.95, "labels": ["cat"]},
    "in_distribution": True,
    "ood_score": 0.94,
    "ood_threshold": 1.67,
    "model": {
        "name": "resnet18-cifar10",
        "version": "2",
        "engine": "openvino",
        "precision": "int8",
        "accuracy": 0.8953,
        "weights": "7ac64cf5a3ec",
    },
    "image": {"format": "JPEG", "width": 451, "height": 300, "notes": []},
}
WEIGHTS_DIGITS: Final = 12


def _is_none(value: object) -> bool:
    return value is None


class ModelReference(BaseModel):
    """What answered."""

    name: str
    version: str
    engine: Annotated[str, Field(description="the library that ran the model")]
    precision: Annotated[str, Field(description="what it computed in: float32, bfloat16 or int8")]
    accuracy: Annotated[
        float | None,
        Field(description="on test pictures, measured on this engine in this precision; null if it was not"),
    ]
    weights: Annotated[
        str | None,
        Field(description=f"the first {WEIGHTS_DIGITS} digits of the sha256 of the SavedModel's weights"),
    ]
    fallback: Annotated[
        str, Field(exclude_if=lambda reason: not reason, description="why a faster engine was given up")
    ] = ""


class ImageDescription(BaseModel):
    """The picture as it came, turned upright."""

    format: Annotated[str, Field(description="found from the bytes, not from a name or content type")]
    width: Annotated[int, Field(description="pixels")]
    height: Annotated[int, Field(description="pixels")]
    notes: Annotated[
        tuple[str, ...],
        Field(
            description="what is special about it: animated (the first frame was used), enlarged, "
            "extreme_shape, nearly_blank, rotated, transparent"
        ),
    ] = ()


class RankedClass(BaseModel):
    """One class and how probable it is."""

    label: str
    class_id: int
    probability: float


class ConfidenceSet(BaseModel):
    """Labels of which one is right as often as `coverage` says, over pictures like those of calibration."""

    coverage: Annotated[float, Field(description="0 to 1")]
    labels: Annotated[list[str], Field(description="at least one, the most probable first", min_length=1)]


class SeenInput(BaseModel):
    """What the network saw of the picture."""

    width: Annotated[int, Field(description="pixels")]
    height: Annotated[int, Field(description="pixels")]
    png: Annotated[str, Field(description="a PNG file in base64")]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Self:
        """For uint8 [H, W, 3]; takes milliseconds where a network takes large pictures."""
        height, width, _ = pixels.shape
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        return cls(width=width, height=height, png=base64.b64encode(file.getvalue()).decode())


class Classification(BaseModel):
    """The answer to one picture."""

    label: Annotated[str, Field(description="the most probable class")]
    class_id: Annotated[int, Field(description="its place in the order of the classes, from 0")]
    probability: Annotated[float, Field(description="its probability, 0 to 1")]
    probabilities: Annotated[dict[str, float], Field(description="of every class, in order; they sum to 1")]
    confidence_set: Annotated[
        ConfidenceSet | None, Field(description="null where the version was not calibrated for the coverage")
    ]
    in_distribution: Annotated[
        bool | None,
        Field(description="false: may be none of the classes; null where the version has no threshold"),
    ]
    ood_score: Annotated[float, Field(description="larger for pictures less like those of training")]
    ood_threshold: Annotated[
        float | None, Field(description="in_distribution is false for scores above it; null if there is none")
    ]
    model: ModelReference
    image: ImageDescription
    input: Annotated[
        SeenInput | None,
        Field(description="the pixels that the network saw, if asked for", exclude_if=_is_none),
    ] = None
    top: Annotated[
        list[RankedClass] | None,
        Field(description="the most probable classes, sorted, if top_k asked for them", exclude_if=_is_none),
    ] = None


class Place(BaseModel):
    index: Annotated[int, Field(description="place of the file in the form, from 0")]


class PlacedClassification(Classification, Place):
    """The answer to one picture of several."""


class PlacedProblem(Place):
    """Why one picture of several has no answer."""

    error: Problem


class BatchResult(BaseModel):
    """One entry per file, in the order of the files."""

    results: list[PlacedClassification | PlacedProblem]
    succeeded: Annotated[int, Field(description="pictures that were classified")]
    failed: Annotated[int, Field(description="pictures that have an error instead")]


class Health(BaseModel):
    status: str


class Readiness(Health):
    """What the service is ready with."""

    engine: Annotated[str, Field(description="the library that runs the model")]
    precision: Annotated[str, Field(description="what it computes in")]
    fallback: Annotated[
        str, Field(exclude_if=lambda reason: not reason, description="why a faster engine was given up")
    ] = ""


def documented(name: str, example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """An OpenAPI response for an answer that is no error."""
    return {200: {"content": {"application/json": {"examples": {name: {"value": example}}}}}}
