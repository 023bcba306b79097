"""One training from its first step, or its last checkpoint, to the published version."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from app.repository import Repository, Version
from training.convolution import FastGradientConv2D
from training.data import Dataset
from training.fit import Trainer
from training.processor import has_bfloat16, has_wide_vectors, processor_flags, use_bfloat16
from training.progress import training_progress
from training.publish import Provenance, publish
from training.recipe import Recipe
from training.resnet import NetworkBuilder, resnet18
from training.split import Pictures, Split


@dataclass(frozen=True)
class Checkpoints:
    """Where a training is saved and how often."""

    path: Path
    every_seconds: float


def train_and_publish(
    recipe: Recipe,
    overrides: dict[str, Any],
    data: Dataset,
    *,
    repository: Repository,
    name: str,
    checkpoints: Checkpoints,
    restart: bool = False,
    build: NetworkBuilder = resnet18,
) -> Version:
    """Trains by the recipe and publishes the result; goes on from its checkpoint where there is one.

    Raises:
        CheckpointError: the checkpoint is damaged or of another training.
        PublishError: the version cannot be written.
    """
    console = Console(soft_wrap=True)
    served = build(
        len(data.class_names), stem=recipe.stem, image_size=data.image_size, dropout=recipe.dropout
    )
    served.summary()
    split = Split.of(Pictures(data.train_images, data.train_labels), recipe.held_out, recipe.seed)
    trainer = _trainer(recipe, len(data.class_names), split.train, build)
    resumed = checkpoints.path.exists() and not restart
    if resumed:
        trainer.restore(checkpoints.path)
        console.print(f"going on at step {trainer.step} of {trainer.total_steps} from {checkpoints.path}")
    else:
        trainer.start()
    _train(trainer, checkpoints, console)
    served.set_weights(trainer.network.get_weights())
    provenance = Provenance(
        recipe=recipe,
        overrides=overrides,
        data=data,
        split=split,
        seconds=trainer.seconds,
        images_per_second=trainer.total_steps * recipe.batch_size / trainer.seconds,
        bfloat16=has_bfloat16(processor_flags()),
        resumed=resumed,
    )
    with console.status("exporting, quantising and measuring on the test pictures"):
        version = publish(served, provenance, repository, name, console.print)
    checkpoints.path.unlink(missing_ok=True)
    console.print(f"published {version} in {version.path}")
    return version


def _trainer(recipe: Recipe, classes: int, pictures: Pictures, build: NetworkBuilder) -> Trainer:
    keras.utils.set_random_seed(recipe.seed)
    flags = processor_flags()
    use_bfloat16(has_bfloat16(flags))
    network = build(
        classes,
        stem=recipe.stem,
        image_size=None
        if len({phase.image_size for phase in recipe.phases}) > 1
        else recipe.phases[0].image_size,
        dropout=recipe.dropout,
        convolution=keras.layers.Conv2D if has_wide_vectors(flags) else FastGradientConv2D,
    )
    to_logits = keras.Model(network.input, network.get_layer("logits").output)
    return Trainer(to_logits, recipe, pictures)


def _train(trainer: Trainer, checkpoints: Checkpoints, console: Console) -> None:
    saved = time.monotonic()
    try:
        with training_progress(console, trainer.recipe.epochs, trainer.total_steps) as show:
            for progress in trainer.steps():
                show(progress)
                if time.monotonic() - saved > checkpoints.every_seconds:
                    trainer.save(checkpoints.path)
                    saved = time.monotonic()
    finally:
        if trainer.step:
            trainer.save(checkpoints.path)
