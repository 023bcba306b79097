import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path
from app import memory

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

memory.give_back_large_pieces()
before = resident_bytes()
for _ in range(3):
    piece = bytearray(b"x") * 20_000_000
    del piece
print(resident_bytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is about the memory management of glibc")
def test_what_a_large_picture_needed_goes_back_to_the_system() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 10_000_000
