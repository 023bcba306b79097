"""`python training/train.py` as a newcomer meets it, on made-up pictures."""

import json
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
TINY = ["--limit", "96", "--batch-size", "16", "--phases", "3x8@0.8,1x16", "--checkpoint-seconds", "2"]
PREDICT = """
import sys, numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
pixels = tf.constant(np.load(sys.argv[2])["pixels"])
probabilities = model.signatures["serving_default"](images=pixels)["probabilities"].numpy()
assert not any(name.split(".")[0] in ("app", "training") for name in sys.modules)
np.save(sys.argv[3], probabilities)
"""

Train = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cifar.write_archive(tmp_path_factory.mktemp("data") / "cifar.tar.gz", cifar.files())


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
def test_killed_interrupted_resumed_and_published(archive: Path, train: Train, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoint.npz"
    killed = train("--data", archive, *TINY)
    wait_for(checkpoint, killed)
    killed.kill()
    killed.communicate()

    interrupted = train("--data", archive, *TINY)
    assert interrupted.stdout is not None
    assert any("going on at step" in line for line in interrupted.stdout)
    interrupted.send_signal(signal.SIGINT)
    _, complaint = interrupted.communicate()
    assert interrupted.returncode == 130
    assert "nothing was published" in complaint
    assert "Traceback" not in complaint
    assert Repository(tmp_path / "model").names() == []

    output, complaint = train("--data", archive, *TINY).communicate()
    assert "Total params: 11,183,562" in output
    assert "test loss" in output
    assert "test accuracy" in output
    assert not checkpoint.exists()
    version = Repository(tmp_path / "model").open("resnet18-cifar10")
    assert str(version.path) in output.replace("\n", "")
    assert version.manifest.class_names == tuple(cifar.NAMES)
    assert {measurement.metric for measurement in version.manifest.measurements} == {"accuracy", "nll", "ece"}
    lineage = version.manifest.lineage
    assert lineage["overrides"] == {
        "batch_size": 16,
        "limit": 96,
        "phases": [
            {"epochs": 3, "image_size": 8, "smallest_crop": 0.8},
            {"epochs": 1, "image_size": 16, "smallest_crop": 1.0},
        ],
    }
    assert lineage["resumed"] is True

    answers = tmp_path / "answers.npy"
    golden = version.path / "golden.npz"
    subprocess.run([sys.executable, "-c", PREDICT, version.path, golden, answers], check=True, cwd=tmp_path)
    with np.load(golden) as recorded:
        assert np.allclose(np.load(answers), recorded["probabilities"], atol=1e-5)
    json.loads((version.path / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "/nowhere/cifar.tar.gz"], "does not exist"),
        (["--batch-size", "0"], "batch_size is 0; it must be between 1 and"),
        (["--phases", "5"], "EPOCHSxPIXELS"),
        (["--phases", "0x32"], "1 or more epochs"),
        (["--epoch", "3"], "--epoch"),
        (["--epochs", "3"], "4x16@0.75,3x24@0.75,1x32"),
        (["--recipe", "fulll"], "quick"),
    ],
)
def test_what_the_caller_can_mend_is_one_clear_sentence(train: Train, options: list[str], words: str) -> None:
    process = train(*options)
    _, complaint = process.communicate()
    assert process.returncode == 2
    assert words in complaint
    assert "Traceback" not in complaint


def test_help_is_quick_and_names_every_number(train: Train) -> None:
    output, _ = train("--help").communicate()
    for word in ("quick", "seed", "--data", "--peak-learning-rate", "--no-flip", "4 epochs at 16 px"):
        assert word in output
