"""What the service answers, as documents. Fields are added over time; none is renamed or removed."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

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
    "model": {"name": "resnet18-cifar10", "version": "1", "engine": "tensorflow"},
    "image": {"format": "JPEG", "width": 451, "height": 300},
}


class ModelReference(BaseModel):
    """What answered."""

    name: str
    version: str
    engine: Annotated[str, Field(description="the library that ran the model")]


class ImageDescription(BaseModel):
    """The picture as it came, turned upright."""

    format: Annotated[str, Field(description="found from the bytes, not from a name or content type")]
    width: Annotated[int, Field(description="pixels")]
    height: Annotated[int, Field(description="pixels")]


class Classification(BaseModel):
    """The answer to one picture."""

    label: Annotated[str, Field(description="the most probable class")]
    class_id: Annotated[int, Field(description="its place in the order of the classes, from 0")]
    probability: Annotated[float, Field(description="its probability, 0 to 1")]
    probabilities: Annotated[dict[str, float], Field(description="of every class, in order; they sum to 1")]
    model: ModelReference
    image: ImageDescription


class Health(BaseModel):
    status: str


def documented(name: str, example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """An OpenAPI response for an answer that is no error."""
    return {200: {"content": {"application/json": {"examples": {name: {"value": example}}}}}}
