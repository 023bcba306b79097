"""What a server takes of the machine, whatever processes it is made of; read from /proc, so Linux alone."""

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_SET_CHILD_SUBREAPER: Final = 36
_KILOBYTE: Final = 1024


def adopt_orphans() -> None:
    """Makes this process the parent of those whose own parent ends, so that none is lost from sight."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> set[int]:
    """Every process below this one that is there now."""
    parents = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    found: set[int] = set()
    frontier = {root}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return found


def cpu_s(processes: set[int]) -> float:
    """Seconds of processor time, with those of their children that have ended."""
    spent = (sum(map(int, fields[11:15])) for process in processes if (fields := _stat(process)))
    return sum(spent) / _TICKS_PER_S


def resident_bytes(processes: set[int]) -> int:
    """Memory in RAM; a page that several of them share counts once."""
    return sum(_proportional_bytes(process) for process in processes)


def command(process: int) -> bytes:
    """The command line, with zeros between its words; empty once it is gone."""
    try:
        return (PROC / str(process) / "cmdline").read_bytes()
    except OSError:
        return b""


def state(process: int) -> str:
    """The letter that the system has for it, as T for stopped; empty once it is gone."""
    return next(iter(_stat(process)), "")


def open_files(processes: set[int]) -> int:
    return sum(_entries(process, "fd") for process in processes)


def threads(processes: set[int]) -> int:
    return sum(_entries(process, "task") for process in processes)


def end(processes: set[int], grace_s: float = 1.0) -> None:
    """Ends processes that this one started: asks, waits, and then does not ask (LitServe waits for ever)."""
    for demand in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, demand)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            _reap()
            processes = {process for process in processes if _stat(process)}
            if not processes:
                return
            time.sleep(0.05)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _stat(process: int) -> list[str]:
    """The fields of /proc/N/stat from the state on; none if it is gone."""
    try:
        return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return []


def _entries(process: int, folder: str) -> int:
    try:
        return len(list((PROC / str(process) / folder).iterdir()))
    except OSError:
        return 0


def _proportional_bytes(process: int) -> int:
    try:
        lines = (PROC / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * _KILOBYTE for line in lines if line.startswith("Pss:"))
