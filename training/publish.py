"""Exports, measures and publishes a trained network as the next version of a model."""

import importlib.metadata
import json
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import keras

from app import golden, graph
from app.cores import available_cores
from app.engines import AUTO, choose
from app.manifest import GOLDEN_NAME, Calibration, Card, Input
from app.repository import Repository, Version
from training import ood
from training.assessment import ALL, Assessment, Extent, assess
from training.calibration import conformal_thresholds, fit_temperature, ood_threshold
from training.data import Dataset
from training.evaluation import predict
from training.export import ServedNetwork, export, features_of
from training.precisions import GOLDEN_TOLERANCE, Report, derive
from training.processor import processor_name
from training.quantization import hold_out
from training.recipe import Recipe
from training.split import Pictures, Split

PACKAGES = ("tensorflow", "keras", "openvino", "nncf", "numpy", "pillow")


@dataclass(frozen=True)
class Provenance:
    """How the weights came to be."""

    recipe: Recipe
    overrides: dict[str, Any]
    data: Dataset
    split: Split
    seconds: float
    images_per_second: float
    bfloat16: bool
    resumed: bool
    gpus: tuple[str, ...] = ()


class Published(NamedTuple):
    version: Version
    assessment: Assessment


def publish(
    network: keras.Model,
    provenance: Provenance,
    repository: Repository,
    name: str,
    extent: Extent = ALL,
    report: Report = lambda _: None,
) -> Published:
    """Calibrates ``network``, measures it on the test pictures and publishes it; ``report`` hears results.

    Temperature and thresholds need pictures that were held out; without any the temperature stays 1.

    Raises:
        PublishError: the folder cannot be written; no half version stays behind.
        GraphError: the network holds an operation that no service would load.
    """
    split = provenance.split
    with repository.staging(name) as staging:
        served = _served(network, provenance.recipe, split)
        export(served, staging.path)
        recorded = golden.record(choose("tensorflow", staging.path), size=network.input_shape[1:3])
        golden.write(recorded, staging.path / GOLDEN_NAME)
        precisions = derive(staging.path, recorded, hold_out(split.for_choices()), report)
        graph.check(staging.path)
        calibration = _calibration(staging.path, served.temperature, split)
        # From here on nothing is chosen any more, so the test pictures may be looked at.
        assessment = assess(staging.path, calibration, provenance.data, extent, report)
        card = _card(network, provenance, calibration, assessment, precisions)
        return Published(staging.publish(card), assessment)


def _served(network: keras.Model, recipe: Recipe, split: Split) -> ServedNetwork:
    """The network with all that stands around it, its temperature fitted where pictures were held out."""
    mean, deviation = recipe.input_scaling()
    sample, _ = split.train.divided(ood.SAMPLE)
    features = features_of(network, sample.images, mean, deviation)
    familiar = ood.MahalanobisScore(ood.fit(features, sample.labels))
    served = ServedNetwork(network, familiar, mean=mean, deviation=deviation)
    if len(split.held_out):
        served.temperature = _temperature(served, split.for_choices())
    return served


def _temperature(served: ServedNetwork, pictures: Pictures) -> float:
    """Fitted on what the engine answers as long as the temperature is 1."""
    with TemporaryDirectory() as folder:
        export(served, Path(folder))
        prediction = predict(choose("tensorflow", Path(folder)), pictures.images)
    return fit_temperature(prediction.probabilities, pictures.labels)


def _calibration(folder: Path, temperature: float, split: Split) -> Calibration:
    """Thresholds for the engine that a service would choose, from pictures that nothing was fitted to."""
    pictures = split.for_thresholds()
    if not len(pictures):
        return Calibration(temperature=temperature)
    engine = choose(AUTO, folder)
    prediction = predict(engine, pictures.images)
    engine.close()
    return Calibration(
        temperature=temperature,
        conformal_thresholds=conformal_thresholds(prediction.probabilities, pictures.labels),
        ood_threshold=ood_threshold(prediction.ood_score),
    )


def _card(
    network: keras.Model,
    provenance: Provenance,
    calibration: Calibration,
    assessment: Assessment,
    precisions: dict[str, Any],
) -> Card:
    height, width, _ = network.input_shape[1:]
    return Card(
        class_names=provenance.data.class_names,
        input=Input(height=height, width=width),
        measurements=assessment.measurements,
        evaluation=assessment.evaluation,
        calibration=calibration,
        golden_tolerance=GOLDEN_TOLERANCE,
        lineage=_lineage(provenance) | {"openvino": precisions},
    )


def _lineage(provenance: Provenance) -> dict[str, Any]:
    return {
        "recipe": provenance.recipe.name,
        "recipe_values": _plain(asdict(provenance.recipe)),
        "overrides": _plain(provenance.overrides),
        "seed": provenance.recipe.seed,
        "data": {
            "name": provenance.data.name,
            "training_pictures": len(provenance.split.train),
            "held_out_pictures": len(provenance.split.held_out),
            "skipped_files": provenance.data.skipped,
            "fingerprint_sha256": provenance.data.fingerprint(),
        },
        "git": _git_state(),
        "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "hardware": {
            "processor": processor_name(),
            "cores": available_cores(),
            "bfloat16": provenance.bfloat16,
            "gpus": list(provenance.gpus),
        },
        "hours": round(provenance.seconds / 3600, 3),
        "images_per_second": round(provenance.images_per_second, 1),
        "resumed": provenance.resumed,
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """The same with lists for tuples and dictionaries for dataclasses, as JSON has it."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=asdict))
    return plain


def _git_state() -> dict[str, Any] | None:
    """The commit that the code is at, and whether files differ from it; nothing outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "clean": not _git("status", "--porcelain", "--untracked-files=no")}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
