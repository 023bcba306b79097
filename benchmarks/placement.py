"""Which cores make the load. Where they serve as well, each takes from the other."""

import argparse
import os
import sys
from typing import Final

ENOUGH: Final = 3  # cores, of which one may go to the load by itself

_load_cores: list[int] = []


def add_option(command: argparse.ArgumentParser) -> None:
    """`--load-cores`, as every command has it that makes a load."""
    command.add_argument(
        "--load-cores",
        type=int,
        default=int(len(os.sched_getaffinity(0)) >= ENOUGH),
        metavar="N",
        help=f"pin the load to so many cores, and what serves to the others; 0 lets both share all of them "
        f"(default: 1 where there are {ENOUGH} or more, else 0; here: %(default)s)",
    )


def keep_for_load(count: int) -> None:
    """Keeps the last `count` cores for `for_load`; this process, and what it starts, stays on the others.

    Call it before an engine has threads: they would stay where they are. If no core is left to serve, the
    program ends with a sentence.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 0 <= count < len(cores):
        sys.exit(f"--load-cores must be from 0 to {len(cores) - 1} on these {len(cores)} cores, not {count}.")
    if count:
        _load_cores[:] = cores[-count:]
        os.sched_setaffinity(0, cores[:-count])


def for_load() -> list[str]:
    """What a command that makes load begins with."""
    return ["taskset", "--cpu-list", ",".join(map(str, _load_cores))] if _load_cores else []


def load_cores() -> int:
    """How many cores the load has to itself."""
    return len(_load_cores)


def taken_s(spent_s: float) -> float:
    """Of the processor time that the load took, what it took from those who serve."""
    return 0.0 if _load_cores else spent_s
