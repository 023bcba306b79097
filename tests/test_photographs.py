from pathlib import Path

import pytest
from conftest import Encode

from training.errors import DataError
from training.photographs import OTHER, read_photographs

NAMES = ("red", "green")


def test_folders_say_what_pictures_show(tmp_path: Path, encode: Encode) -> None:
    for folder, name in (("red", "b.png"), ("green", "a.png"), ("coffee", "c.png"), ("other", "d.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(encode("red"))
    (tmp_path / "red" / "notes.txt").write_text("no picture")
    found = read_photographs(tmp_path, NAMES, (16, 24))
    assert found.labels.tolist() == [OTHER, 1, OTHER, 0]
    assert found.images.shape == (4, 16, 24, 3)
    assert found.images[0, 0, 0].tolist() == [255, 0, 0]
    assert found.unreadable == (tmp_path / "red" / "notes.txt",)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a folder"):
        read_photographs(tmp_path / "nowhere", NAMES, (32, 32))
    with pytest.raises(DataError, match=r"no picture .* folders named as classes \(red, green"):
        read_photographs(tmp_path, NAMES, (32, 32))
