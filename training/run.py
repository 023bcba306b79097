"""One training from its first step, or its last checkpoint, to the published version."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from app import processor
from app.repository import Repository, Version
from training.assessment import ALL, Extent
from training.data import Dataset
from training.devices import Devices, all_machines
from training.fit import Trainer
from training.history import Epoch, History
from training.processor import has_bfloat16, use_bfloat16
from training.progress import Step, training_progress
from training.publish import Provenance, publish
from training.recipe import Recipe
from training.report import write_report
from training.resnet import NetworkBuilder, resnet18
from training.scalars import scalars
from training.split import Pictures, Split
from training.winograd import WinogradConv2D


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
    tensorboard: Path | None = None,
    extent: Extent = ALL,
    build: NetworkBuilder = resnet18,
) -> Version | None:
    """Trains by the recipe and publishes the result; goes on from its checkpoint where there is one.

    Of several machines the chief alone writes checkpoints and publishes; the others give None, once it has.

    Raises:
        CheckpointError: the checkpoint is damaged or of another training.
        DevicesError: another machine of the training is gone.
        PublishError: the version cannot be written.
    """
    console = Console(soft_wrap=True)
    devices = Devices.found()
    served = build(
        len(data.class_names), stem=recipe.stem, image_size=data.image_size, dropout=recipe.dropout
    )
    if devices.is_chief:
        served.summary()
    split = Split.of(Pictures(data.train_images, data.train_labels), recipe.held_out, recipe.seed)
    trainer = _trainer(recipe, len(data.class_names), split.train, build, devices)
    history = History(checkpoints.path.with_name("history.jsonl"))
    with all_machines(devices):
        resumed = _begin(trainer, None if restart else checkpoints.path, console)
        if devices.is_chief and not resumed:
            history.forget()
        _train(trainer, checkpoints, history, tensorboard, console)
        if not devices.is_chief:
            trainer.share_state()
            return None
    use_bfloat16(False)  # what is published is measured as it will be served
    served.set_weights(trainer.network.get_weights())
    provenance = Provenance(
        recipe=recipe,
        overrides=overrides,
        data=data,
        split=split,
        seconds=trainer.seconds,
        images_per_second=trainer.total_steps * recipe.batch_size / trainer.seconds,
        bfloat16=has_bfloat16(processor.flags()) and not devices.gpus,
        resumed=resumed,
        gpus=devices.gpus,
    )
    with console.status("exporting, quantising and measuring on the test pictures"):
        version, assessment = publish(served, provenance, repository, name, extent, console.print)
    page = checkpoints.path.with_name(f"report-{version.manifest.version}.html")
    write_report(page, version.manifest, assessment, history.epochs())
    checkpoints.path.unlink(missing_ok=True)
    console.print(f"published {version} in {version.path}, report in {page}")
    if devices.several_machines:
        trainer.share_state()  # for which the others wait: a machine that left would count as lost
    return version


def _trainer(
    recipe: Recipe, classes: int, pictures: Pictures, build: NetworkBuilder, devices: Devices
) -> Trainer:
    keras.utils.set_random_seed(recipe.seed)
    use_bfloat16(has_bfloat16(processor.flags()))
    sizes = {phase.image_size for phase in recipe.phases}
    with devices.building():
        network = build(
            classes,
            stem=recipe.stem,
            image_size=None if len(sizes) > 1 else sizes.pop(),
            dropout=recipe.dropout,
            convolution=keras.layers.Conv2D if devices.gpus else WinogradConv2D,
        )
        to_logits = keras.Model(network.input, network.get_layer("logits").output)
    return Trainer(to_logits, recipe, pictures, devices)


def _begin(trainer: Trainer, checkpoint: Path | None, console: Console) -> bool:
    """Brings the trainer to its first step, or to that of the checkpoint; whether it was the latter."""
    if trainer.devices.is_chief and checkpoint and checkpoint.exists():
        trainer.restore(checkpoint)
    else:
        trainer.start()
    if trainer.devices.several_machines:
        trainer.share_state()
    if trainer.step:
        console.print(f"going on at step {trainer.step} of {trainer.total_steps} from {checkpoint}")
    return trainer.step > 0


def _train(
    trainer: Trainer,
    checkpoints: Checkpoints,
    history: History,
    tensorboard: Path | None,
    console: Console,
) -> None:
    saved = time.monotonic()
    writes = trainer.devices.is_chief
    try:
        with (
            training_progress(console, trainer.recipe.epochs, trainer.total_steps) as show,
            scalars(tensorboard if writes else None) as write,
        ):
            for progress in trainer.steps():
                show(progress)
                write(progress, trainer.recipe.learning_rate(progress.step - 1, progress.total_steps))
                if writes and progress.step % trainer.steps_per_epoch == 0:
                    history.record(_epoch(trainer, progress))
                if writes and time.monotonic() - saved > checkpoints.every_seconds:
                    trainer.save(checkpoints.path)
                    saved = time.monotonic()
    finally:
        if writes and trainer.step:
            trainer.save(checkpoints.path)


def _epoch(trainer: Trainer, progress: Step) -> Epoch:
    return Epoch(
        number=progress.epoch + 1,
        image_size=trainer.recipe.phase(progress.epoch).image_size,
        learning_rate=trainer.recipe.learning_rate(progress.step - 1, progress.total_steps),
        loss=progress.loss,
        accuracy=progress.accuracy,
    )
