"""Folders that several processes share: those that nobody has any more are removed, and no others."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.shared_folder import made_in, remove_abandoned

MAKER = """
import sys
from pathlib import Path
from app.shared_folder import made_in
with made_in(Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""
HOLDER = """
import sys
from pathlib import Path
from app.shared_folder import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""

Start = Callable[[str, Path], tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a program until it is killed; gives what it says first."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, folder: Path) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-c", program, str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_it_is_gone_in_the_end(tmp_path: Path) -> None:
    with made_in(tmp_path) as folder:
        (folder / "figures").write_bytes(b"1")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_it_is_removed_once_neither_its_maker_nor_another_that_holds_it_lives(
    tmp_path: Path, start: Start
) -> None:
    maker, folder = start(MAKER, tmp_path)
    (Path(folder) / "figures").write_bytes(b"1")
    holder, _ = start(HOLDER, Path(folder))
    remove_abandoned(tmp_path)
    assert Path(folder, "figures").exists()
    kill(maker)
    remove_abandoned(tmp_path)
    assert Path(folder, "figures").exists()
    kill(holder)
    with made_in(tmp_path) as other:
        assert list(tmp_path.iterdir()) == [other]


def test_what_has_no_mark_is_left_alone(tmp_path: Path) -> None:
    """It was made a moment ago, or by a version of the service that knew of none."""
    (tmp_path / "classifier-older").mkdir()
    (tmp_path / "classifier-older" / "counter_1.db").write_bytes(b"1")
    remove_abandoned(tmp_path)
    assert (tmp_path / "classifier-older" / "counter_1.db").exists()


def test_what_another_user_made_is_left_alone(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, folder = start(MAKER, tmp_path)
    kill(maker)
    folder_owner = os.geteuid()
    with monkeypatch.context() as changed:
        changed.setattr(os, "geteuid", lambda: folder_owner + 1)
        remove_abandoned(tmp_path)
    assert Path(folder).exists()


def test_a_link_to_what_is_elsewhere_is_not_followed(tmp_path: Path, start: Start) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    maker, folder = start(MAKER, tmp_path / "elsewhere")
    kill(maker)
    (tmp_path / "here" / "classifier-link").symlink_to(folder)
    remove_abandoned(tmp_path / "here")
    assert Path(folder).exists()


def test_many_that_start_at_once_remove_each_others_nothing(tmp_path: Path, start: Start) -> None:
    for _ in range(3):
        kill(start(MAKER, tmp_path)[0])

    def make(_: int) -> bool:
        with made_in(tmp_path) as folder:
            remove_abandoned(tmp_path)
            return folder.exists()

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(make, range(200)))
    assert list(tmp_path.iterdir()) == []
