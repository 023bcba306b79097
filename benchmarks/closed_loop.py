"""A fixed number of clients, each asking again as soon as it has its answer: how fast can a server go?

wrk does the asking. It is compiled, so it leaves the cores to the server; it is not a package of Python.
"""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import placement
from latency import Latency
from load import HOST, Body, Load, packed

SCRIPT: Final = Path(__file__).with_name("wrk.lua")
TIMEOUT_S: Final = 60
_MARK: Final = "RESULT "


def find_wrk() -> str:
    """The path of wrk; without it the program ends with a sentence."""
    found = shutil.which("wrk")
    if found is None:
        sys.exit("wrk makes the load and is not installed. On Debian or Ubuntu: apt-get install wrk")
    return found


def run(port: int, path: str, bodies: Sequence[Body], *, clients: int, seconds: float) -> Load:
    """Asks for so many whole seconds, at least one; each request has the next of the bodies."""
    with packed(bodies) as file:
        before = _children_cpu_s()
        asked = subprocess.run(  # noqa: S603  # our own options
            [
                *(*placement.for_load(), find_wrk(), "--threads", "1", "--connections", str(clients)),
                *("--duration", f"{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_S}s"),
                *("--script", str(SCRIPT), f"http://{HOST}:{port}{path}", "--", str(file)),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        spent_s = _children_cpu_s() - before
    return parse(asked.stdout, placement.taken_s(spent_s))


def parse(output: str, generator_cpu_s: float) -> Load:
    """What `wrk.lua` printed among wrk's own words.

    Raises:
        ValueError: it printed nothing.
    """
    line = next((line for line in output.splitlines() if line.startswith(_MARK)), None)
    if line is None:
        raise ValueError(f"wrk printed no result: {output[-500:]!r}")
    found = json.loads(line.removeprefix(_MARK))
    broken = found["connect"] + found["read"] + found["write"] + found["timeout"]
    latency = Latency(**{name: found[name] / 1000 for name in ("p50", "p90", "p99", "p999", "most")})
    return Load(
        seconds=found["duration"] / 1e6,
        answered=found["requests"] - found["status"],
        failed=found["status"] + broken,
        latency=latency if found["requests"] else None,
        generator_cpu_s=generator_cpu_s,
    )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
