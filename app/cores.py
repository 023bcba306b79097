"""How many cores this process may really use: a container sees all of the machine's and is allowed some."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")


def available_cores(control_groups: Path = CONTROL_GROUPS, membership: Path = MEMBERSHIP) -> int:
    """Cores by affinity, or by the smallest quota of the control groups where that is less; at least 1.

    A quota of 1.5 cores counts as 1: more threads than are paid for are stopped in the middle of a batch.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, min([cores, *(int(quota) for quota in _quotas(control_groups, membership))]))


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
