"""The contract between training and serving, as one JSON document per published version."""

import hashlib
import json
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from app.errors import ManifestError

FILE_NAME = "manifest.json"
GOLDEN_NAME = "golden.npz"
WEIGHTS_PREFIX = "variables/variables.data-"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,99}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class File(_Part):
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Input(_Part):
    """What the network sees; pictures of any size are brought to it by `app.imaging`."""

    height: PositiveInt
    width: PositiveInt
    channels: Literal[3] = 3


class Measurement(_Part):
    """One figure, measured on the published files through the service's own code.

    `metric` is for instance "accuracy" (a share from 0 to 1), "ece" or "nll"; `data` says on which pictures.
    """

    metric: Annotated[str, Field(min_length=1)]
    data: Annotated[str, Field(min_length=1)]
    value: float
    pictures: PositiveInt
    engine: Annotated[str, Field(min_length=1)]
    precision: Annotated[str, Field(min_length=1)]


class ConformalThreshold(_Part):
    """The labels of at least this probability form a set that holds the truth with this coverage."""

    coverage: Annotated[float, Field(gt=0, lt=1)]
    threshold: float


class Calibration(_Part):
    """`temperature` is already inside the graph; a score above `ood_threshold` may be none of the classes."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    conformal_thresholds: tuple[ConformalThreshold, ...] = ()
    ood_threshold: float | None = None

    def threshold(self, coverage: float) -> float | None:
        """The probability from which on labels are in the set with this coverage; None if not calibrated."""
        return next((each.threshold for each in self.conformal_thresholds if each.coverage == coverage), None)


class ReliabilityBin(_Part):
    """Pictures of similar confidence: how sure the model was on average, and the share that was right."""

    confidence: Annotated[float, Field(ge=0, le=1)]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    pictures: PositiveInt


class Evaluation(_Part):
    """One measurement in detail.

    `confusion[i][j]` counts the pictures of class i that were called j, in the order of the classes.
    `reliability` is ascending by confidence and has no empty bin.
    """

    data: Annotated[str, Field(min_length=1)]
    engine: Annotated[str, Field(min_length=1)]
    precision: Annotated[str, Field(min_length=1)]
    confusion: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...]
    reliability: tuple[ReliabilityBin, ...] = ()


class Card(_Part):
    """What whoever publishes a version states about it; the repository adds the rest and makes a `Manifest`.

    `golden_tolerance` maps a precision ("float32", "bfloat16", "int8") to the largest difference in a
    probability that an engine of that precision may show on the golden pictures. `lineage` is free: how this
    version came to be.
    """

    class_names: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=2)]
    input: Input
    measurements: tuple[Measurement, ...] = ()
    calibration: Calibration = Calibration()
    evaluation: Evaluation | None = None
    golden_tolerance: dict[str, Annotated[float, Field(gt=0, le=1)]] = {"float32": 1e-3}
    lineage: dict[str, JsonValue] = {}

    @field_validator("class_names")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"every class needs a name of its own, but {', '.join(twice)} is there twice")
        return names

    @model_validator(mode="after")
    def _confusion_is_of_these_classes(self) -> Self:
        classes = len(self.class_names)
        if self.evaluation and {classes} != {
            len(self.evaluation.confusion),
            *map(len, self.evaluation.confusion),
        }:
            raise ValueError(
                f"evaluation.confusion must have {classes} rows of {classes} counts, as there are classes"
            )
        return self

    def accuracy(self, engine: str, precision: str) -> float | None:
        """The accuracy that was measured first for this engine and precision, 0 to 1; None if none was."""
        return next(
            (
                each.value
                for each in self.measurements
                if (each.metric, each.engine, each.precision) == ("accuracy", engine, precision)
            ),
            None,
        )


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or "/".join(parts) != path or ".." in parts:
        raise ValueError(f"{path!r} is not a plain path inside the version's folder")
    if path == FILE_NAME:
        raise ValueError(f"{FILE_NAME} cannot list itself")
    return path


def _utc_text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _in_utc(moment: datetime) -> datetime:
    if moment.utcoffset():
        raise ValueError("the time must be in UTC")
    return moment


class Manifest(Card):
    """A card with its place in the repository and the fingerprint of every file beside it."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: PositiveInt
    created: Annotated[AwareDatetime, AfterValidator(_in_utc), PlainSerializer(_utc_text, when_used="json")]
    files: Annotated[dict[Annotated[str, AfterValidator(_relative)], File], Field(min_length=1)]

    @model_validator(mode="after")
    def _golden_pictures_are_listed(self) -> Self:
        if GOLDEN_NAME not in self.files:
            raise ValueError(f"files: {GOLDEN_NAME} is missing, and without it nobody can check the version")
        return self

    @property
    def weights_sha256(self) -> str | None:
        """That of the SavedModel's weights, from which the files of all engines were made.

        With several shards it is the sha256 of their own, written one after the other; None without weights.
        """
        shards = [self.files[name].sha256 for name in sorted(self.files) if name.startswith(WEIGHTS_PREFIX)]
        if len(shards) < 2:
            return shards[0] if shards else None
        return hashlib.sha256("".join(shards).encode()).hexdigest()


def _complaint(error: ValidationError) -> str:
    """The first things wrong, each with where it stands."""
    wrong = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [f"{'.'.join(map(str, one['loc'])) or 'manifest'}: {one['msg']}" for one in wrong[:3]]
    return "; ".join(shown) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")


def read(path: Path) -> Manifest:
    """The manifest in the file at `path`, every field checked.

    Raises:
        ManifestError: the file is missing, is not JSON, or a field is missing, unknown or of the wrong type.
    """
    try:
        return Manifest.model_validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise ManifestError(f"Cannot read the manifest {path}: {error.strerror}.") from error
    except ValidationError as error:
        raise ManifestError(f"The manifest {path} is not valid: {_complaint(error)}.") from error


def complete(card: Card, **place: Any) -> Manifest:
    """The card made whole with name, version, created and files.

    Raises:
        ManifestError: a field does not hold what it should.
    """
    try:
        return Manifest.model_validate(dict(card) | place)
    except ValidationError as error:
        raise ManifestError(f"This cannot be a manifest: {_complaint(error)}.") from error


def write(manifest: Manifest, path: Path) -> None:
    """Writes JSON that people can read, the identity first."""
    fields = manifest.model_dump(mode="json")
    identity = {key: fields.pop(key) for key in ("schema_version", "name", "version", "created")}
    text = json.dumps(identity | fields, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
