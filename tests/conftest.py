import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CLASS_NAMES, SHARPNESS, FakeEngine
from PIL import Image

from app import golden
from app.engines import Engine
from app.manifest import GOLDEN_NAME, Card, Input
from app.repository import Repository, Version

MODEL = "colours"
CARD = Card(class_names=CLASS_NAMES, input=Input(height=32, width=32))

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Encodes a picture of one colour, or any image, in any format."""

    def encoded(picture: str | Image.Image = "red", form: str = "PNG", **options: Any) -> bytes:
        image = Image.new("RGB", (48, 40), picture) if isinstance(picture, str) else picture
        stream = BytesIO()
        image.save(stream, form, **options)
        return stream.getvalue()

    return encoded


def publish(
    repository: Repository, engine: Engine, fill: Callable[[Path], None], card: Card = CARD
) -> Version:
    with repository.staging(MODEL) as staging:
        fill(staging.path)
        golden.write(golden.record(engine), staging.path / GOLDEN_NAME)
        return staging.publish(card)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Holds version 1 of a model for the fake engine."""
    repository = Repository(tmp_path / "model")
    publish(
        repository, FakeEngine(), lambda folder: (folder / "weights.bin").write_bytes(b"weights") and None
    )
    return repository


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A tiny TensorFlow SavedModel with both signatures, published as version 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from app.engines.tensorflow import TensorFlowEngine

        repository = Repository(tmp_path_factory.mktemp("tensorflow") / "model")
        folder = tmp_path_factory.mktemp("exported")
        export_strongest_colour(folder)

    def fill(staging: Path) -> None:
        for path in (path for path in folder.rglob("*") if path.is_file()):
            target = staging / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())

    return publish(repository, TensorFlowEngine(folder), fill)


def export_strongest_colour(folder: Path) -> None:
    """Writes what `fakes.strongest_colour` computes as a SavedModel."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable(np.eye(3, dtype=np.float32) * SHARPNESS / 255)

    def logits(images: Any) -> Any:
        return tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2)) @ module.weights

    def serving_default(images: Any) -> dict[str, Any]:
        return {"probabilities": tf.nn.softmax(logits(images))}

    def scored(images: Any) -> dict[str, Any]:
        energy = -tf.reduce_logsumexp(logits(images), axis=1)
        return serving_default(images) | {"ood_score": energy}

    images = tf.TensorSpec([None, 32, 32, 3], tf.uint8, name="images")
    signatures = {
        function.__name__: tf.function(function).get_concrete_function(images)
        for function in (serving_default, scored)
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)
