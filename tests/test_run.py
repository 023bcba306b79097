"""A whole training in this process, with a network that is small enough for it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Encode
from networks import flat_colours, one_convolution
from PIL import Image

from app.engines import choose
from app.repository import Repository, Version
from app.settings import Settings
from training.data import Dataset
from training.folders import load_folder
from training.recipe import QUICK, Phase
from training.run import Checkpoints, train_and_publish

RECIPE = dataclasses.replace(QUICK, phases=(Phase(2, 16),), batch_size=8, held_out=0)

pytestmark = [
    pytest.mark.timeout(300),  # the first test loads TensorFlow
    pytest.mark.filterwarnings("ignore"),  # of NNCF's and TensorFlow's own making
]


class StoppedPictures(np.ndarray[Any, Any]):
    """Can be taken from as often as it is told, or what was taken from it, and then there is Ctrl-C."""

    batches = 0

    def __array_finalize__(self, parent: Any) -> None:
        self.batches = getattr(parent, "batches", 0)

    def __getitem__(self, rows: Any) -> Any:
        self.batches -= 1
        if self.batches < 0:
            raise KeyboardInterrupt
        return super().__getitem__(rows)


Train = Callable[..., Version]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(data: Dataset) -> Version:
        version = train_and_publish(
            RECIPE,
            {},
            data,
            repository=Repository(tmp_path / "model"),
            name="colours",
            checkpoints=Checkpoints(tmp_path / "checkpoint.npz", every_seconds=1000),
            build=one_convolution,
        )
        assert version
        return version

    return run


@pytest.mark.parametrize(("pictures", "batches"), [("train_images", 6), ("test_images", 1)])
def test_ctrl_c_leaves_no_version_and_the_same_command_goes_on(
    train: Train, tmp_path: Path, pictures: str, batches: int
) -> None:
    data = flat_colours(48)
    stopped = getattr(data, pictures).view(StoppedPictures)
    stopped.batches = batches
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(data, **{pictures: stopped}))
    assert list((tmp_path / "model").rglob("*")) == []
    assert (tmp_path / "checkpoint.npz").exists()
    version = train(data)
    assert version.manifest.lineage["resumed"] is True
    assert not (tmp_path / "checkpoint.npz").exists()


def test_somebodys_own_pictures_become_a_model_that_is_served(
    tmp_path: Path, train: Train, encode: Encode, serving_with: Callable[..., Any]
) -> None:
    strongest = {"apple": "red", "leaf": "lime", "sky": "blue"}
    for name, colour in strongest.items():
        (tmp_path / "fruit" / name).mkdir(parents=True)
        for number in range(12):
            picture = Image.new("RGB", (30, 20), colour)
            picture.putpixel((number, 4), (255, 255, 255))
            (tmp_path / "fruit" / name / f"{number}.jpg").write_bytes(encode(picture, "JPEG"))
    data = load_folder(tmp_path / "fruit", 24, scratch=tmp_path / "run", report=print)
    version = train(data)
    assert (version.manifest.input.height, version.manifest.input.width) == (24, 24)
    assert dict(version.manifest.lineage)["data"] == {
        "name": "fruit",
        "training_pictures": 29,
        "held_out_pictures": 0,
        "skipped_files": 0,
        "fingerprint_sha256": data.fingerprint(),
    }
    settings = Settings(model_root=version.path.parent.parent, model_name="colours")
    with serving_with(settings, choose("auto", version.path, 1)) as client:
        for name, colour in strongest.items():
            answer = client.post("/predict", files={"file": encode(colour)}).raise_for_status().json()
            assert answer["label"] == name
            assert list(answer["probabilities"]) == ["apple", "leaf", "sky"]
