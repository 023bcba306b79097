"""`make bench` around its measurements: which servers, which turn counts, which environments."""

import hashlib
from pathlib import Path

import compare
import pytest
from contenders import CONTENDERS, PEERS
from environments import MARK, InstallationError, prepare
from latency import Latency
from load import Load
from measurement import Cell, Turn


def turn(name: str, per_s: int) -> Turn:
    load = Load(1.0, per_s, 0, Latency(1, 1, 1, 1, 1), 0.0)
    return Turn(name, name, "tensorflow", {}, cells=[Cell("png32", "multipart", 32, load, 1.0)])


def test_of_several_turns_the_median_one_counts() -> None:
    turns = [turn(name, per_s) for per_s in (30, 10, 20) for name in ("a", "b")]
    assert [(each.name, each.capacity) for each in compare.median_turns(turns)] == [("a", 20), ("b", 20)]


def test_everybody_is_compared_unless_some_are_named() -> None:
    assert compare.chosen(None) == CONTENDERS
    assert [each.name for each in compare.chosen("litserve,ours")] == ["litserve", "ours"]


def test_a_server_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(SystemExit, match=r"no server 'triton'.*litserve-int8"):
        compare.chosen("ours,triton")


def test_an_environment_is_kept_until_its_lock_changes(tmp_path: Path) -> None:
    lock = (PEERS / "fastapi" / "requirements.txt").read_bytes()
    (tmp_path / "fastapi").mkdir()
    (tmp_path / "fastapi" / MARK).write_text(hashlib.sha256(lock).hexdigest())
    prepare("fastapi", tmp_path)
    assert [path.name for path in (tmp_path / "fastapi").iterdir()] == [MARK]


def test_an_environment_that_cannot_be_made_says_which_command_failed(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(InstallationError, match=r"-m venv --clear failed: .*file"):
        prepare("fastapi", occupied)
