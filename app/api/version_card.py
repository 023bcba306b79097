"""The card of a version as a document: its manifest, and what follows from it."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field, JsonValue

from app.manifest import Calibration, Evaluation, File, Input, Manifest, Measurement


class ClassFigures(BaseModel):
    """How one class did in the evaluation; a share of nothing is null."""

    label: str
    pictures: Annotated[int, Field(description="of this class")]
    recall: Annotated[float | None, Field(description="share of these that were called so, 0 to 1")]
    precision: Annotated[float | None, Field(description="share of those called so that were right, 0 to 1")]


class VersionCard(BaseModel):
    """What a version is worth, how it came to be, and what it consists of."""

    name: str
    version: str
    created: datetime
    class_names: tuple[str, ...]
    input: Annotated[Input, Field(description="what the network sees, in pixels")]
    weights: Annotated[str | None, Field(description="sha256 of the SavedModel's weights")]
    measurements: Annotated[
        tuple[Measurement, ...], Field(description="figures, each by engine and precision")
    ]
    evaluation: Annotated[
        Evaluation | None,
        Field(description="confusion matrix (truth, then answer) and reliability; null if not measured"),
    ]
    classes: Annotated[
        tuple[ClassFigures, ...] | None, Field(description="from the confusion matrix; null without it")
    ]
    calibration: Calibration
    golden_tolerance: Annotated[
        dict[str, float], Field(description="how far probabilities may be from the recorded ones")
    ]
    lineage: Annotated[dict[str, JsonValue], Field(description="how this version came to be")]
    files: dict[str, File]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        shared = {name: getattr(manifest, name) for name in cls.model_fields.keys() & Manifest.model_fields}
        evaluation = manifest.evaluation
        return cls(
            **shared
            | {"version": str(manifest.version)}
            | {"weights": manifest.weights_sha256}
            | {"classes": evaluation and _classes(manifest.class_names, evaluation.confusion)}
        )


def _classes(names: tuple[str, ...], confusion: tuple[tuple[int, ...], ...]) -> tuple[ClassFigures, ...]:
    called = [sum(column) for column in zip(*confusion, strict=True)]
    return tuple(
        ClassFigures(
            label=name,
            pictures=sum(row),
            recall=_share(row[index], sum(row)),
            precision=_share(row[index], called[index]),
        )
        for index, (name, row) in enumerate(zip(names, confusion, strict=True))
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
