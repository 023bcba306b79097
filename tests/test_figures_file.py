"""Files of figures on a file system that is full: what is there goes on, what is new waits, nobody dies."""

import subprocess
import sys
from pathlib import Path

from mounts import within_mount

# Each figure has a name of 100 letters, so 64 KiB hold some 500.
FILL = """
import logging, sys
from contextlib import suppress
from pathlib import Path
from app.figures_file import FIRST_BYTES, FiguresFile, reserve

logging.basicConfig(format="%(message)s", stream=sys.stdout)
folder = Path(sys.argv[1])
path, rest = folder / "counter_1.db", folder / "rest"
reserve(path)
file = FiguresFile(str(path))
with suppress(OSError), rest.open("wb", buffering=0) as filler:
    while filler.write(bytes(4096)):
        pass
names = [f"{number:0100d}" for number in range(1000)]
for name in names:
    file.write_value(name, 1.0, 0.0)
full = list(FiguresFile.read_all_values_from_file(path))
assert 100 < len(full) < 900, len(full)
assert file.read_value(names[-1]) == (0.0, 0.0)
file.write_value(names[0], 2.0, 0.0)  # what has its place goes on
rest.unlink()
for name in names[1:]:
    file.write_value(name, 2.0, 0.0)
found = list(FiguresFile.read_all_values_from_file(path))
assert [(name, value) for name, value, _, _ in found] == [(name, 2.0) for name in names]
"""
COUNT = """
import os, sys
from pathlib import Path
from app import shared_metrics
with shared_metrics.kept(1):
    folder = Path(os.environ[shared_metrics._FOLDER])
    reserved = {path.name: path.stat().st_blocks * 512 for path in folder.glob("*.db")}
    assert all(size >= 65536 for size in reserved.values()), reserved
    shared_metrics.join(1)
    from app.metrics import Metrics
    metrics = Metrics()
    metrics.watch({"queue": lambda: 7}, lambda: True, list, list)
    metrics.in_flight = 3
    metrics.answered("/predict", "POST", 200)
    text = metrics.render().decode()
    assert "classifier_requests_in_flight 3.0" in text
    assert {path.name for path in folder.glob("*.db")} == set(reserved)
    shared_metrics.leave(1)
    assert {path.name for path in folder.glob("*.db")} == set(reserved)
    print(metrics._shown.get_sample_value("classifier_requests_in_flight"))
    print(metrics._shown.get_sample_value("process_resident_memory_bytes"))
    labels = {"route": "/predict", "method": "POST", "status": "200"}
    print(metrics._shown.get_sample_value("classifier_requests_total", labels))
"""
NO_ROOM = """
import resource
from app import shared_metrics
from app.errors import SettingsError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with shared_metrics.kept(3):
        print("there was room")
except SettingsError as error:
    print(error)
"""


def run(*command: str) -> str:
    """What a program says; it ends with 0."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or done.returncode
    return done.stdout


def test_figures_that_find_no_room_wait_for_it_and_nobody_dies(tmp_path: Path) -> None:
    said = run(*within_mount(tmp_path, 300), sys.executable, "-c", FILL, str(tmp_path))
    assert said.count("There is no room for more figures in") == 1
    assert "No space left on device" in said


def test_every_file_is_reserved_before_and_kept_for_the_next_process() -> None:
    assert run(sys.executable, "-c", COUNT).split() == ["None", "None", "1.0"]


def test_no_room_anywhere_is_one_sentence_with_names_and_numbers() -> None:
    """A limit on the size of files stands for two file systems that are full."""
    said = run(sys.executable, "-c", NO_ROOM)
    assert said.startswith("3 workers need 768 KiB for their figures, and there is no room in ")
    assert "File too large; " in said
    assert " KiB are free)" in said
    assert "--workers 1" in said
    assert len(said.splitlines()) == 1
