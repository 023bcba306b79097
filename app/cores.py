"""How many cores this process may really use, and who of its threads goes first where they are too few."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")

NICENESS: Final = 10  # a tenth of the event loop's weight, see sched(7)


def available_cores(control_groups: Path = CONTROL_GROUPS, membership: Path = MEMBERSHIP) -> int:
    """Cores by affinity, or by the smallest quota of the control groups where that is less; at least 1.

    A quota of 1.5 cores counts as 1: more threads than are paid for are stopped in the middle of a batch.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, min([cores, *(int(quota) for quota in _quotas(control_groups, membership))]))


def give_way() -> None:
    """Lets the event loop go before the calling thread, and those that it starts, where both want a core.

    The event loop takes little, but probes and refusals wait for it, and so does every engine that has run
    out of pictures. Niceness belongs to a thread on Linux alone; elsewhere this does nothing.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # some sandboxes allow no such thing
            niceness = os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICENESS
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def _quotas(control_groups: Path, membership: Path) -> Iterator[float]:
    """Every limit on processor time that holds here, in cores; a group's parents limit it too."""
    for line in _text(membership).splitlines():
        hierarchy, controllers, path = line.split(":", maxsplit=2)
        if hierarchy == "0":
            root, quota = control_groups, _quota_v2
        elif "cpu" in controllers.split(","):
            root, quota = control_groups / "cpu", _quota_v1
        else:
            continue
        group = root / path.lstrip("/")
        # Inside a container the path may be the one outside, so a folder that is not there is no surprise.
        for folder in (group, *group.parents):
            if folder == root or root in folder.parents:
                yield from quota(folder)


def _quota_v2(group: Path) -> Iterator[float]:
    granted, _, period = _text(group / "cpu.max").partition(" ")
    if granted.isdigit():
        yield int(granted) / int(period or 100_000)


def _quota_v1(group: Path) -> Iterator[float]:
    granted, period = (_text(group / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    if granted.isdigit() and period.isdigit():
        yield int(granted) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
