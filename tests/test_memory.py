import subprocess
import sys

import pytest

from app.memory import Tide

PROGRAM = """
from pathlib import Path
from app import memory

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

memory.give_back_large_pieces()
before = resident_bytes()
"""
LARGE = """
for _ in range(3):
    piece = bytearray(b"x") * 20_000_000
    del piece
print(resident_bytes() - before)
"""
MANY = """
bodies, kept = [], []
for _ in range(50):
    bodies.append(bytearray(b"x") * 2_000_000)
    kept.append(bytearray(1000))
del bodies
print(resident_bytes() - before)
memory.give_back_the_rest()
print(resident_bytes() - before)
"""

on_glibc = pytest.mark.skipif(sys.platform != "linux", reason="it is about the memory management of glibc")


def printed(program: str) -> list[int]:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, check=True
    )
    return list(map(int, run.stdout.split()))


@on_glibc
def test_what_a_large_picture_needed_goes_back_to_the_system() -> None:
    (kept,) = printed(LARGE)
    assert kept < 10_000_000


@on_glibc
def test_what_many_bodies_needed_goes_back_when_they_are_gone() -> None:
    before, after = printed(MANY)
    assert before > 50_000_000
    assert after < 10_000_000


def test_memory_is_given_back_once_after_every_flood() -> None:
    tide, mib = Tide(), 2**20
    received = [0, 5, 40, 90, 20, 2, 0, 0, 5, 0, 33, 0]
    ebbed = [tide.has_ebbed(each * mib) for each in received]
    assert [at for at, has_ebbed in enumerate(ebbed) if has_ebbed] == [6, 11]
