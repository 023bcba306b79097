"""`python training/train.py` as a newcomer meets it, on made-up pictures."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cifar
import numpy as np
import pytest

from app.repository import Repository

TRAIN = Path(__file__).resolve().parent.parent / "training" / "train.py"
TINY = ["--limit", "32", "--batch-size", "8", "--phases", "4x8@0.8", "--checkpoint-seconds", "2"]
FEW = ["--disturbed", "4"]
PREDICT = """
import sys, numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
pixels = tf.constant(np.load(sys.argv[2])["pixels"])
probabilities = model.signatures["serving_default"](images=pixels)["probabilities"].numpy()
assert not any(name.split(".")[0] in ("app", "training") for name in sys.modules)
np.save(sys.argv[3], probabilities)
"""

Train = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Starts the command, from a folder that is not the project's."""

    def start(*options: Any) -> subprocess.Popen[str]:
        places = ["--model-root", str(tmp_path / "model"), "--run-dir", str(tmp_path / "run")]
        command = [sys.executable, str(TRAIN), *map(str, options), *places]
        return subprocess.Popen(
            command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    return start


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.timeout(240)
def test_a_killed_training_goes_on_and_is_published(
    cifar_archive: Path, train: Train, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "run" / "checkpoint.npz"
    killed = train("--data", cifar_archive, *TINY)
    wait_for(checkpoint, killed)
    killed.kill()
    killed.communicate()
    assert Repository(tmp_path / "model").names() == []

    output, _ = train("--data", cifar_archive, *TINY, *FEW).communicate()
    assert "going on at step" in output
    assert "Total params: 11,183,562" in output
    said = " ".join(output.split())  # lines end where the terminal does
    assert re.search(r"loss \d+\.\d+, accuracy \d+\.\d+% on CIFAR-10 test", said)
    assert not checkpoint.exists()
    version = Repository(tmp_path / "model").open("resnet18-cifar10")
    assert str(version.path) in output.replace("\n", "")
    assert version.manifest.class_names == tuple(cifar.NAMES)
    assert version.manifest.lineage["overrides"] == {
        "batch_size": 8,
        "limit": 32,
        "phases": [{"epochs": 4, "image_size": 8, "smallest_crop": 0.8}],
    }
    json.loads((version.path / "manifest.json").read_text())
    assert_it_needs_nothing_around_it(version.path, tmp_path)


def assert_it_needs_nothing_around_it(version: Path, folder: Path) -> None:
    answers = folder / "answers.npy"
    golden = version / "golden.npz"
    subprocess.run([sys.executable, "-c", PREDICT, version, golden, answers], check=True, cwd=folder)
    with np.load(golden) as recorded:
        assert np.allclose(np.load(answers), recorded["probabilities"], atol=1e-5)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_one_sentence_and_an_exit_code(train: Train, tmp_path: Path, stop: signal.Signals) -> None:
    pipe = tmp_path / "cifar.tar.gz"
    os.mkfifo(pipe)
    process = train("--data", pipe)
    with pipe.open("wb"):  # once the training reads it
        process.send_signal(stop)
        _, complaint = process.communicate()
    assert process.returncode == 130
    assert "nothing was published" in complaint
    assert "Traceback" not in complaint


def test_what_the_caller_can_mend_is_one_clear_sentence(train: Train) -> None:
    process = train("--data", "/nowhere/cifar.tar.gz")
    _, complaint = process.communicate()
    assert process.returncode == 2
    assert "does not exist" in complaint
    assert "Traceback" not in complaint


def test_help_is_quick_and_names_every_number(train: Train) -> None:
    output, _ = train("--help").communicate()
    for word in ("quick", "seed", "--data", "--peak-learning-rate", "--no-flip", "6 epochs at 16 px"):
        assert word in output
