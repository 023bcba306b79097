import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Encode
from numpy.typing import NDArray
from PIL import Image

from app import imaging
from training.data import Dataset
from training.errors import DataError
from training.folders import load_folder

COLOURS = {"blue sky": (20, 30, 230), "grass": (20, 220, 30), "roses": (230, 20, 30)}

Load = Callable[..., Dataset]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def load(tmp_path: Path, said: list[str]) -> Load:
    def load(root: Path, image_size: int = 8, seed: int = 0) -> Dataset:
        return load_folder(root, image_size, scratch=tmp_path / "scratch", seed=seed, report=said.append)

    return load


@pytest.fixture
def root(tmp_path: Path, encode: Encode) -> Path:
    """Ten pictures of each of three classes."""
    fill(tmp_path / "pictures", encode)
    return tmp_path / "pictures"


def fill(root: Path, encode: Encode, count: int = 10) -> None:
    """Pictures of nearly one colour, no two alike, in several formats and in folders within folders."""
    for name, colour in COLOURS.items():
        (root / name / "more").mkdir(parents=True)
        for number in range(count):
            picture = Image.new("RGB", (20 + number, 24), colour)
            picture.putpixel((3, 3), (255, 255, 10 * number))
            form = ("PNG", "JPEG", "WEBP")[number % 3]
            path = root / name / ("more" if number % 2 else ".") / f"{number}.picture"
            path.write_bytes(encode(picture, form))


def colours(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.asarray(images.mean(axis=(1, 2)).argmax(axis=1))


def test_each_sub_folder_is_a_class_and_a_fifth_of_it_is_for_testing(root: Path, load: Load) -> None:
    data = load(root)
    assert data.class_names == ("blue sky", "grass", "roses")
    assert data.name == "pictures"
    assert data.train_images.shape == (24, 8, 8, 3)
    assert data.test_images.shape == (6, 8, 8, 3)
    assert np.bincount(data.test_labels).tolist() == [2, 2, 2]
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        assert np.array_equal(colours(images), 2 - labels)
    everything = np.concatenate([data.train_images, data.test_images]).reshape(30, -1)
    assert len(np.unique(everything, axis=0)) == 30


def test_pictures_are_decoded_as_the_service_decodes_them(root: Path, load: Load) -> None:
    data = load(root, image_size=12)
    files = [path.read_bytes() for path in root.rglob("*.picture")]
    served = {imaging.decode(file, size=(12, 12)).pixels.tobytes() for file in files}
    assert served == {pixels.tobytes() for pixels in (*data.train_images, *data.test_images)}


def test_the_seed_decides_which_are_for_testing(root: Path, load: Load) -> None:
    assert load(root).fingerprint() == load(root).fingerprint()
    one, other = (load(root, seed=seed).test_images.reshape(6, -1) for seed in (0, 1))
    assert {row.tobytes() for row in one} != {row.tobytes() for row in other}


def test_the_first_pictures_are_of_all_classes(root: Path, load: Load) -> None:
    assert len(np.unique(load(root).limited(12).train_labels)) == 3


def test_folders_train_and_test_say_themselves_what_is_for_testing(
    tmp_path: Path, encode: Encode, load: Load
) -> None:
    fill(tmp_path / "mine" / "train", encode, 8)
    fill(tmp_path / "mine" / "test", encode, 3)
    data = load(tmp_path / "mine")
    assert data.class_names == ("blue sky", "grass", "roses")
    assert (len(data.train_images), len(data.test_images)) == (24, 9)


def test_what_is_no_picture_is_skipped_named_and_counted(
    tmp_path: Path, encode: Encode, load: Load, said: list[str]
) -> None:
    root = tmp_path / "pictures"
    fill(root, encode, 12)
    (root / "grass" / "notes.txt").write_text("green")
    (root / "roses" / "cut.png").write_bytes((root / "roses" / "0.picture").read_bytes()[:60])
    (root / "roses" / "empty.jpg").touch()
    (root / "roses" / "elsewhere").symlink_to("/nowhere")
    (root / "roses" / ".hidden").write_text("nobody asks for it")
    data = load(root)
    assert data.skipped == 4
    assert len(data.train_labels) + len(data.test_labels) == 36
    assert sorted(Path(words.split(": ")[0]).name for words in said) == [
        "cut.png",
        "elsewhere",
        "empty.jpg",
        "notes.txt",
    ]
    assert any("broken" in words for words in said)


def test_a_class_with_too_few_pictures_is_named(root: Path, load: Load) -> None:
    for number in range(4):
        next((root / "grass").rglob(f"{number}.picture")).unlink()
    with pytest.raises(DataError, match=r"too few pictures.*: grass \(\d \+ \d\)\. .*at least 8 \+ 1"):
        load(root)


def test_pictures_that_cannot_be_read_do_not_count(root: Path, load: Load) -> None:
    for path in (root / "grass" / "more").iterdir():
        path.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"too few readable pictures.*: grass"):
        load(root)


def test_an_empty_class_or_none_is_a_clear_error(root: Path, load: Load) -> None:
    (root / "nothing").mkdir()
    with pytest.raises(DataError, match=r"nothing \(0 \+ 0\)"):
        load(root)
    for folder in root.iterdir():
        shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"0 sub-folders.*at least 2"):
        load(root)


def test_nothing_is_left_in_the_scratch_folder(root: Path, load: Load, tmp_path: Path) -> None:
    load(root)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_scratch_folder_that_cannot_be_written_says_what_is_needed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"need 0\.0 GB in .*--run-dir"):
        load_folder(root, 8, scratch=tmp_path / "file" / "run", report=print)
