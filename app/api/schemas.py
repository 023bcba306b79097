"""What the service answers, as documents. Fields are added over time; none is renamed or removed."""

from typing import Annotated, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from app.api.problems import Problem
from app.classification import Classified

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
    "model": {"name": "resnet18-cifar10", "version": "1", "engine": "openvino", "precision": "int8"},
    "image": {"format": "JPEG", "width": 451, "height": 300, "notes": []},
}


def _is_none(value: object) -> bool:
    return value is None


def _shortest(row: NDArray[np.float32]) -> list[float]:
    """The shortest decimals that still are the same float32 numbers."""
    return [float(str(value)) for value in row]


class ModelReference(BaseModel):
    """What answered."""

    name: str
    version: str
    engine: Annotated[str, Field(description="the library that ran the model")]
    precision: Annotated[str, Field(description="what it computed in: float32, bfloat16 or int8")]


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


class Classification(BaseModel):
    """The answer to one picture."""

    label: Annotated[str, Field(description="the most probable class")]
    class_id: Annotated[int, Field(description="its place in the order of the classes, from 0")]
    probability: Annotated[float, Field(description="its probability, 0 to 1")]
    probabilities: Annotated[dict[str, float], Field(description="of every class, in order; they sum to 1")]
    model: ModelReference
    image: ImageDescription
    top: Annotated[
        list[RankedClass] | None,
        Field(description="the most probable classes, sorted, if top_k asked for them", exclude_if=_is_none),
    ] = None

    @classmethod
    def of(cls, classified: Classified, top_k: int | None = None, **place: int) -> Self:
        """The answer with the `top_k` most probable classes sorted, of which the lower id wins a tie."""
        model, picture = classified.model, classified.picture
        names, probabilities = model.manifest.class_names, _shortest(classified.probabilities)
        ranking = [
            RankedClass(label=names[index], class_id=index, probability=probabilities[index])
            for index in np.argsort(-classified.probabilities, kind="stable").tolist()
        ]
        return cls(
            **ranking[0].model_dump(),
            probabilities=dict(zip(names, probabilities, strict=True)),
            model=ModelReference(
                name=model.manifest.name,
                version=str(model.manifest.version),
                engine=model.engine.name,
                precision=model.engine.precision,
            ),
            image=ImageDescription(
                format=picture.format, width=picture.width, height=picture.height, notes=picture.notes
            ),
            top=None if top_k is None else ranking[:top_k],
            **place,
        )


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
