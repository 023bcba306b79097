import os
import sys
import threading
from pathlib import Path

import pytest

from app.cores import NICENESS, available_cores, give_way

ALLOWED = len(os.sched_getaffinity(0))


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def membership(folder: Path, *lines: str) -> Path:
    path = folder / "membership"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", ALLOWED),
        ("100000 100000", 1),
        ("190000 100000", 1),
        ("20000 100000", 1),
        ("99900000 100000", ALLOWED),
        ("nonsense", ALLOWED),
    ],
)
def test_a_quota_of_the_second_version_counts_in_whole_cores(tmp_path: Path, quota: str, cores: int) -> None:
    group(tmp_path / "pod", cpu__max=quota)
    assert available_cores(tmp_path, membership(tmp_path, "0::/pod")) == min(cores, ALLOWED)


@pytest.mark.parametrize(("quota", "cores"), [("-1", ALLOWED), ("100000", 1), ("99900000", ALLOWED)])
def test_a_quota_of_the_first_version_counts_too(tmp_path: Path, quota: str, cores: int) -> None:
    group(tmp_path / "cpu/pod", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    own = membership(tmp_path, "3:memory:/pod", "2:cpu,cpuacct:/pod", "0::/")
    assert available_cores(tmp_path, own) == min(cores, ALLOWED)


def test_the_quota_of_a_parent_holds_as_well(tmp_path: Path) -> None:
    group(tmp_path / "slice", cpu__max="100000 100000")
    group(tmp_path / "slice/pod", cpu__max="max 100000")
    assert available_cores(tmp_path, membership(tmp_path, "0::/slice/pod")) == 1


def test_a_path_from_outside_the_container_leaves_its_root_to_count(tmp_path: Path) -> None:
    group(tmp_path, cpu__max="100000 100000")
    assert available_cores(tmp_path, membership(tmp_path, "0::/outside/pod")) == 1


def test_without_control_groups_affinity_decides(tmp_path: Path) -> None:
    assert available_cores(tmp_path, tmp_path / "none") == ALLOWED


@pytest.mark.skipif(sys.platform != "linux", reason="niceness belongs to a whole process elsewhere")
def test_a_thread_gives_way_once_and_alone() -> None:
    found: list[int] = []

    def give_way_twice() -> None:
        give_way()
        give_way()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, os.getpid())
    thread = threading.Thread(target=give_way_twice)
    thread.start()
    thread.join()
    assert found == [min(19, before + NICENESS)]
    assert os.getpriority(os.PRIO_PROCESS, os.getpid()) == before
