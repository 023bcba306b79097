import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import free_port
from networks import flat_colours, one_convolution

from app.repository import Repository
from training.devices import BFLOAT16, FLOAT16, FLOAT32, ONE_DEVICE, Devices, precision
from training.errors import RecipeError
from training.fit import Trainer
from training.recipe import QUICK, SEED, Phase, Recipe
from training.split import Pictures

pytestmark = pytest.mark.timeout(240)

RECIPE = dataclasses.replace(QUICK, phases=(Phase(3, 16),), batch_size=8, held_out=0)
WORKER = """
import dataclasses, sys
from pathlib import Path
import numpy as np
from networks import flat_colours, one_convolution
from app.repository import Repository
from training.recipe import QUICK, Phase
from training.run import Checkpoints, train_and_publish

built = []

def build(classes, **options):
    built.append(one_convolution(classes, **options))
    return built[-1]

folder = Path(sys.argv[1])
train_and_publish(
    dataclasses.replace(QUICK, phases=(Phase(3, 16),), batch_size=8, held_out=0),
    {},
    flat_colours(32),
    repository=Repository(folder / "model"),
    name="colours",
    checkpoints=Checkpoints(folder / "run" / "checkpoint.npz", every_seconds=0),
    build=build,
)
np.savez(folder / "weights.npz", *built[1].get_weights())
"""


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [
        ([], FLOAT32),
        ([(0, 0)], FLOAT32),
        ([(6, 1)], FLOAT32),
        ([(7, 0)], FLOAT16),
        ([(8, 0)], BFLOAT16),
        ([(9, 0), (7, 5)], FLOAT16),
    ],
)
def test_the_weakest_gpu_decides_the_precision(capabilities: list[tuple[int, int]], policy: str) -> None:
    assert precision(capabilities) == policy


def trainer(recipe: Recipe, devices: Devices = ONE_DEVICE) -> Trainer:
    data = flat_colours(32)
    keras.utils.set_random_seed(0)
    with devices.building():
        network = one_convolution(3, stem="cifar", image_size=recipe.phases[0].image_size, dropout=0.0)
        to_logits = keras.Model(network.input, network.get_layer("logits").output)
    return Trainer(to_logits, recipe, Pictures(data.train_images, data.train_labels), devices)


@pytest.mark.parametrize("policy", [FLOAT16, BFLOAT16])
def test_16_bits_learn_too_and_weights_keep_32(policy: str, tmp_path: Path) -> None:
    made = trainer(dataclasses.replace(SEED, phases=(Phase(8, 16),), batch_size=16), Devices(policy=policy))
    assert made.network.output.dtype == policy.removeprefix("mixed_")
    assert list(made.steps())[-1].accuracy > 0.9
    assert {variable.dtype for variable in made.network.variables} == {"float32"}
    assert keras.config.dtype_policy().name == FLOAT32
    made.save(tmp_path / "checkpoint.npz")
    made.restore(tmp_path / "checkpoint.npz")


class ThreeDevices(Devices):
    @property
    def replicas(self) -> int:
        return 3


def test_devices_that_cannot_share_a_batch_say_which_size_fits() -> None:
    with pytest.raises(RecipeError, match=r"3 devices cannot share 16 .* multiple of 3"):
        trainer(dataclasses.replace(SEED, batch_size=16), ThreeDevices())


def test_two_machines_go_on_from_the_chiefs_checkpoint_to_equal_weights(tmp_path: Path) -> None:
    """The chief alone writes and publishes; the other needs nothing but the pictures."""
    chief, other = tmp_path / "chief", tmp_path / "other"
    begun = trainer(RECIPE)
    next(step for step in begun.steps() if step.step == 2)
    begun.save(chief / "run" / "checkpoint.npz")
    other.mkdir()

    processes = list(started(chief, other))
    outputs = [process.communicate()[0] for process in processes]
    for process, said in zip(processes, outputs, strict=True):
        assert process.returncode == 0, said
        assert "going on at step 2 of 12" in said
    ours, theirs = (np.load(folder / "weights.npz") for folder in (chief, other))
    for name in ours.files:
        assert np.array_equal(ours[name], theirs[name])
    assert Repository(chief / "model").open("colours").manifest.lineage["resumed"] is True
    assert sorted(path.name for path in other.iterdir()) == ["weights.npz"]


def started(*folders: Path) -> Iterator[subprocess.Popen[str]]:
    """A process for each, which stands for a machine."""
    cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in folders]}
    for index, folder in enumerate(folders):
        place = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        yield subprocess.Popen(
            [sys.executable, "-c", WORKER, folder],
            env=os.environ | {"TF_CONFIG": place, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
