"""Exports, measures and publishes a trained network as the next version of a model."""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras

from app import golden
from app.engines import AUTO, candidates, choose
from app.errors import EngineUnavailableError
from app.manifest import GOLDEN_NAME, Card, Input, Measurement
from app.repository import Repository, Version
from training.data import Dataset
from training.evaluation import evaluate
from training.export import ServedNetwork, export
from training.precisions import GOLDEN_TOLERANCE, Report, derive
from training.processor import available_cores, processor_name
from training.quantization import hold_out
from training.recipe import Recipe

PACKAGES = ("tensorflow", "keras", "openvino", "nncf", "numpy", "pillow")


@dataclass(frozen=True)
class Provenance:
    """How the weights came to be."""

    recipe: Recipe
    overrides: dict[str, Any]
    data: Dataset
    seconds: float
    images_per_second: float
    bfloat16: bool
    resumed: bool


def publish(
    network: keras.Model,
    provenance: Provenance,
    repository: Repository,
    name: str,
    report: Report = lambda _: None,
) -> Version:
    """Publishes ``network`` once each engine was measured on the test pictures; ``report`` hears each result.

    Raises:
        PublishError: the folder cannot be written; no half version stays behind.
    """
    mean, deviation = provenance.recipe.input_scaling()
    data = provenance.data
    with repository.staging(name) as staging:
        export(ServedNetwork(network, mean=mean, deviation=deviation), staging.path)
        recorded = golden.record(choose("tensorflow", staging.path), size=network.input_shape[1:3])
        golden.write(recorded, staging.path / GOLDEN_NAME)
        held_out = hold_out(data.train_images, data.train_labels)
        precisions = derive(staging.path, recorded, held_out, report)
        measurements = tuple(_measurements(staging.path, data, report))
        return staging.publish(_card(network, provenance, measurements, precisions))


def _measurements(folder: Path, data: Dataset, report: Report) -> Iterator[Measurement]:
    """Every engine that can run the version here, the reference first."""
    for name in reversed(candidates(AUTO)):
        try:
            engine = choose(name, folder)
        except EngineUnavailableError:
            continue
        evaluation = evaluate(engine, data.test_images, data.test_labels)
        report(
            f"{engine.name} {engine.precision}: test loss {evaluation.loss:.4f}, test accuracy "
            f"{evaluation.accuracy:.2%} on {evaluation.pictures:,} pictures"
        )
        figures = {
            "accuracy": evaluation.accuracy,
            "nll": evaluation.loss,
            "ece": evaluation.calibration_error,
        }
        for metric, value in figures.items():
            yield Measurement(
                metric=metric,
                data="CIFAR-10 test",
                value=value,
                pictures=evaluation.pictures,
                engine=engine.name,
                precision=engine.precision,
            )
        engine.close()


def _card(
    network: keras.Model,
    provenance: Provenance,
    measurements: tuple[Measurement, ...],
    precisions: dict[str, Any],
) -> Card:
    height, width, _ = network.input_shape[1:]
    return Card(
        class_names=provenance.data.class_names,
        input=Input(height=height, width=width),
        measurements=measurements,
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
            "name": "CIFAR-10",
            "training_pictures": len(provenance.data.train_images),
            "fingerprint_sha256": provenance.data.fingerprint(),
        },
        "git": _git_state(),
        "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "hardware": {
            "processor": processor_name(),
            "cores": available_cores(),
            "bfloat16": provenance.bfloat16,
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
