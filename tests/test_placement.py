"""The load has the cores that it is given, and what serves the others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import placement
import pytest

PROGRAM = """
import json, os, subprocess, sys
import placement
placement.keep_for_load(int(sys.argv[1]))
affinity = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
served, loading = (
    json.loads(subprocess.check_output([*prefix, *affinity])) for prefix in ([], placement.for_load())
)
print(json.dumps([served, loading, placement.load_cores(), placement.taken_s(2.5)]))
"""
CORES = sorted(os.sched_getaffinity(0))

needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="there is one core")


def outcome(count: int) -> "subprocess.CompletedProcess[str]":
    """Of a process of its own, since it moves to other cores."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(count)],
        cwd=Path(placement.__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@needs_two_cores
def test_cores_kept_for_the_load_serve_nobody_and_cost_nobody() -> None:
    assert json.loads(outcome(1).stdout) == [CORES[:-1], CORES[-1:], 1, 0.0]


def test_without_them_all_cores_do_both_and_the_load_is_taken_from_those_who_serve() -> None:
    assert json.loads(outcome(0).stdout) == [CORES, CORES, 0, 2.5]


@pytest.mark.parametrize("count", [-1, len(CORES), 1000])
def test_as_many_as_leave_none_to_serve_are_refused(count: int) -> None:
    ended = outcome(count)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"--load-cores must be from 0 to {len(CORES) - 1} on these {len(CORES)} cores, not {count}.\n"
    )
