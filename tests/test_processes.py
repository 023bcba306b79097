"""The processes of a server, as benchmarks see them."""

import os
import subprocess
import time
from collections.abc import Callable

import processes


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_children_of_children_are_seen_measured_and_ended() -> None:
    before = processes.descendants(os.getpid())
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & wait"])
    try:
        wait_for(lambda: len(processes.descendants(os.getpid()) - before) == 3)
        found = processes.descendants(os.getpid()) - before
        assert shell.pid in found
        assert processes.resident_bytes(found) > 100_000
        assert processes.cpu_s(found) >= 0
    finally:
        processes.end(processes.descendants(os.getpid()) - before)
        shell.wait()
    assert not found & processes.descendants(os.getpid())


def test_what_is_gone_takes_nothing() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert processes.cpu_s({child.pid}) == 0
    assert processes.resident_bytes({child.pid}) == 0
