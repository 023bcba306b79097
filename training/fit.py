"""The training loop, which can be stopped and resumed at any step."""

import json
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.augment import Augment, augmenter, epoch_order
from training.devices import FLOAT16, ONE_DEVICE, Devices
from training.errors import CheckpointError, RecipeError
from training.progress import Step
from training.recipe import Recipe
from training.split import Pictures
from training.whitening import SAMPLE_PIXELS, whiten_stem

# A checkpoint may be older than a number of the recipe; it was trained as this number has it by default.
DEFAULTS = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}


class Trainer:
    """Trains ``network`` (normalised pixels to logits) on uint8 pictures by a recipe.

    Args:
        network: float32 ``[N, H, W, 3]`` in, logits ``[N, classes]`` out.
        recipe: every number that matters.
        pictures: what to learn from.
        devices: what to learn on; ``network`` was made for them.

    Raises:
        RecipeError: the devices cannot share a batch evenly.
    """

    def __init__(
        self, network: keras.Model, recipe: Recipe, pictures: Pictures, devices: Devices = ONE_DEVICE
    ) -> None:
        self.network = network
        self.devices = devices
        self.recipe = recipe
        self.pictures = pictures
        self._fingerprint = pictures.fingerprint()
        self.step = 0
        self.seconds = 0.0
        self._check_shares()
        with devices.building():
            self.optimizer = _optimizer(recipe, devices)
            self.optimizer.build(network.trainable_variables)
        self._statistics = [v for v in network.non_trainable_variables if v.dtype == "float32"]
        mean, deviation = recipe.input_scaling()
        self._mean = tf.constant(mean, tf.float32) * 255.0
        self._deviation = tf.constant(deviation, tf.float32) * 255.0
        self._losses: list[float] = []
        self._hits: list[float] = []
        self.learn = devices.function(self._learn)

    def _check_shares(self) -> None:
        replicas = self.devices.replicas
        if self.batch_size % replicas:
            raise RecipeError(
                f"{replicas} devices cannot share {self.batch_size} pictures of a step evenly. Give a "
                f"--batch-size that is a multiple of {replicas}."
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with: every number of the recipe, and the data."""
        recipe: dict[str, Any] = json.loads(json.dumps(asdict(self.recipe)))
        return recipe | {"data": self._fingerprint}

    @property
    def batch_size(self) -> int:
        """Pictures of a step, on all devices together."""
        return min(self.recipe.batch_size, len(self.pictures))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only: the few pictures left over are other ones in each epoch."""
        return max(1, len(self.pictures) // self.recipe.batch_size)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.recipe.epochs

    def start(self) -> None:
        """Data-dependent initialisation, before the first step."""
        if self.recipe.whitened_stem:
            count = max(1, SAMPLE_PIXELS // self.pictures.image_size**2)
            sample = self.pictures.take(np.arange(min(len(self.pictures), count)))
            pixels = self._normalize(tf.cast(sample.images, tf.float32))
            whiten_stem(self.network.get_layer("stem_conv"), pixels.numpy())

    def steps(self) -> Iterator[Step]:
        """Takes one step for each item asked for, until the recipe's last."""
        while self.step < self.total_steps:
            epoch = self.step // self.steps_per_epoch
            augment = augmenter(self.recipe, self.recipe.phase(epoch))
            order = epoch_order(self.recipe.seed, epoch, len(self.pictures))
            for _ in range(self.step % self.steps_per_epoch, self.steps_per_epoch):
                began = time.perf_counter()
                self._take_step(order, augment)
                elapsed = time.perf_counter() - began
                self.seconds += elapsed
                yield self._progress(epoch, elapsed)
            self._losses.clear()
            self._hits.clear()

    def _take_step(self, order: NDArray[np.int64], augment: Augment) -> None:
        first = self.step % self.steps_per_epoch * self.batch_size
        shares = np.split(order[first : first + self.batch_size], self.devices.replicas)

        def views(device: int) -> tuple[tf.Tensor, tf.Tensor]:
            batch = self.pictures.take(shares[device])
            return augment(batch.images, self.step, device), tf.constant(batch.labels)

        self.optimizer.learning_rate.assign(self.recipe.learning_rate(self.step, self.total_steps))
        loss, hits = self.learn(*self.devices.distribute(views, parts=2))
        self._losses.append(float(loss))
        self._hits.append(float(hits) / self.batch_size)
        self.step += 1

    def _progress(self, epoch: int, elapsed: float) -> Step:
        return Step(
            epoch=epoch,
            step=self.step,
            total_steps=self.total_steps,
            loss=float(np.mean(self._losses)),
            accuracy=float(np.mean(self._hits)),
            images_per_second=self.batch_size / elapsed,
        )

    def _normalize(self, images: tf.Tensor) -> tf.Tensor:
        return (images - self._mean) / self._deviation

    def _learn(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = tf.cast(self.network(self._normalize(images), training=True), tf.float32)
            mean = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            loss = mean / self.devices.replicas
            scaled = self.optimizer.scale_loss(loss)
        variables = self.network.trainable_variables
        gradients = self.devices.placed(tape.gradient(scaled, variables))
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))  # which sums over devices
        self._agree_on_statistics()
        hits = tf.reduce_sum(tf.cast(tf.argmax(logits, axis=1) == labels, tf.float32))
        loss, hits = self.devices.total([loss, hits])
        return loss, hits

    def _agree_on_statistics(self) -> None:
        if self.devices.replicas > 1:
            sums = self.devices.total([tf.convert_to_tensor(v) for v in self._statistics])
            for variable, total in zip(self._statistics, sums, strict=True):
                variable.assign(total / self.devices.replicas)

    def share_state(self) -> None:
        """Brings every machine to where the chief is; all of them must call it."""
        variables = [*self.network.variables, *self.optimizer.variables]
        state = [*(variable.numpy() for variable in variables), np.array(self.step)]
        *values, step = self.devices.from_chief(state)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self.step = int(step)

    def save(self, path: Path) -> None:
        """Writes all that `restore` needs; the file that was there stays until the new one is whole."""
        arrays = {f"weight_{i}": v.numpy() for i, v in enumerate(self.network.variables)}
        arrays |= {f"optimizer_{i}": v.numpy() for i, v in enumerate(self.optimizer.variables)}
        state = {"step": self.step, "seconds": self.seconds, "losses": self._losses, "hits": self._hits}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            texts = {"identity": json.dumps(self.identity), "state": json.dumps(state)}
            np.savez(file, allow_pickle=False, **texts, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Goes on from a checkpoint of the same recipe and data.

        Raises:
            CheckpointError: the file is damaged, or was written by another training.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                self._check_identity(path, str(saved["identity"]))
                self._assign(saved)
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(
                f"{path} is not a whole checkpoint. Give --restart to train from the start."
            ) from error

    def _check_identity(self, path: Path, saved: str) -> None:
        theirs, ours = DEFAULTS | json.loads(saved), self.identity
        differing = sorted(key for key in ours if theirs.get(key) != ours[key])
        if differing:
            changes = ", ".join(f"{key} {theirs.get(key)} there, {ours[key]} here" for key in differing)
            raise CheckpointError(
                f"{path} belongs to another training ({changes}). Give the options of that training to go on "
                "with it, --restart to begin anew, or another --run-dir."
            )

    def _assign(self, saved: Any) -> None:
        for kind, variables in (("weight", self.network.variables), ("optimizer", self.optimizer.variables)):
            for index, variable in enumerate(variables):
                variable.assign(saved[f"{kind}_{index}"])
        state = json.loads(str(saved["state"]))
        self.step, self.seconds = state["step"], state["seconds"]
        self._losses, self._hits = state["losses"], state["hits"]


def _optimizer(recipe: Recipe, devices: Devices) -> keras.optimizers.Optimizer:
    if devices.policy == FLOAT16:
        return keras.optimizers.LossScaleOptimizer(_float32_optimizer(recipe))
    return _float32_optimizer(recipe)


def _float32_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(recipe.peak_learning_rate)
    # Keras decays weights outside the momentum, so the papers' coefficient acts 1 / (1 - momentum) times
    # stronger.
    decay = recipe.weight_decay / (1.0 - recipe.momentum)
    optimizer = keras.optimizers.SGD(
        recipe.peak_learning_rate, momentum=recipe.momentum, nesterov=True, weight_decay=decay or None
    )
    if decay:
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer
