import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from training.errors import CheckpointError
from training.fit import Trainer
from training.normalization import FusedBatchNormalization
from training.recipe import QUICK, SEED, Phase, Recipe
from training.split import Pictures

TINY = dataclasses.replace(QUICK, phases=(Phase(1, 16, 0.75), Phase(1, 32)), batch_size=16, warmup=0.3)


def trainer(recipe: Recipe = TINY) -> Trainer:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(54, 3, strides=2, use_bias=False, name="stem_conv")(pixels)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(FusedBatchNormalization()(x)))
    network = keras.Model(pixels, keras.layers.Dense(2, name="logits")(x))
    labels = np.arange(64) % 2
    images = np.random.default_rng(0).integers(0, 120, (64, 32, 32, 3)) + labels[:, None, None, None] * 100
    made = Trainer(network, recipe, Pictures(images.astype(np.uint8), labels))
    made.start()
    return made


@pytest.mark.parametrize("recipe", [TINY, dataclasses.replace(SEED, batch_size=16, phases=(Phase(4, 32),))])
def test_a_network_learns_what_can_be_learnt(recipe: Recipe) -> None:
    steps = list(trainer(recipe).steps())
    assert [step.step for step in steps] == list(range(1, steps[-1].total_steps + 1))
    assert steps[-1].loss < steps[0].loss
    assert steps[-1].accuracy > 0.9


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole, resumed = trainer(), trainer()
    for step in whole.steps():
        whole.save(tmp_path / f"{step.step}.npz")
    expected = whole.network.get_weights()
    for stopped_at in (2, 4, 5):  # inside an epoch, between two, inside the next at another size
        resumed.restore(tmp_path / f"{stopped_at}.npz")
        last = list(resumed.steps())[-1]
        assert resumed.step == whole.step
        assert 0 <= last.accuracy <= 1
        for ours, theirs in zip(resumed.network.get_weights(), expected, strict=True):
            assert np.allclose(ours, theirs, atol=1e-5)


def test_layers_know_the_size_of_the_pictures_in_every_phase() -> None:
    """Winograd's convolutions need it; without it they would silently be ordinary ones."""
    sizes: list[int | None] = []

    def watched(pixels: Any) -> Any:
        sizes.append(pixels.shape[1])
        return pixels

    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    x = keras.layers.Lambda(watched)(pixels)
    x = keras.layers.Conv2D(54, 3, strides=2, use_bias=False, name="stem_conv")(x)
    network = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    images = np.zeros((16, 32, 32, 3), np.uint8)
    recipe = dataclasses.replace(TINY, phases=(Phase(2, 16), Phase(2, 24), Phase(2, 32)), whitened_stem=False)
    sizes.clear()
    list(Trainer(network, recipe, Pictures(images, np.arange(16) % 2)).steps())
    assert sizes == [16, 24, 32]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    trainer().save(tmp_path / "checkpoint.npz")
    with pytest.raises(CheckpointError, match=r"batch_size 16 there, 8 here.*--restart"):
        trainer(dataclasses.replace(TINY, batch_size=8)).restore(tmp_path / "checkpoint.npz")


def test_a_damaged_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    trainer().save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="--restart"):
        trainer().restore(path)


def test_saving_replaces_the_old_checkpoint_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoint.npz"
    trainer().save(path)
    trainer().save(path)
    assert [child.name for child in path.parent.iterdir()] == ["checkpoint.npz"]


def test_weights_decay_but_norms_and_biases_do_not() -> None:
    made = trainer(dataclasses.replace(TINY, weight_decay=0.01))
    optimizer = made.optimizer
    decayed = [v.name for v in made.network.trainable_variables if optimizer._use_weight_decay(v)]
    assert decayed == ["kernel", "kernel"]
    assert optimizer.weight_decay == pytest.approx(0.1)  # the papers' 0.01 with a momentum of 0.9
