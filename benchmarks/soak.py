"""Half of what this service can do, of mixed pictures, for a long time: does anything grow or slow down?

    python benchmarks/soak.py --minutes 60

Requests come at random moments, nine of ten with a 32x32 PNG, the rest with JPEGs of 500x375 pixels and of 12
megapixels, and a file that is no picture. After each minute it looks at the memory that is resident, at open
files and at threads. It exits with 1 if memory grew by more than a twentieth since the second minute, if
files or threads did at all, if the middle p99 of the last third of the minutes is more than half above that
of the first, or if any request was not answered with what its picture deserves.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from statistics import median
from typing import Final

import closed_loop
import machine
import measurement
import processes
import report
from contenders import CONTENDERS, OURS
from load import Body, raw
from measurement import CAPACITY_CLIENTS
from pictures import PICTURES, encoded
from runner import say
from server import Server, running

from app.repository import Repository

SHARE: Final = 0.5  # of what it can do
GROWTH: Final = 1.05
SLOWER: Final = 1.5
SETTLE_S: Final = 2.0
_SMALL: Final = 90  # of a hundred
_BROKEN: Final = raw(b"no picture")
_DESERVED: Final = {HTTPStatus.OK, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}


@dataclass(frozen=True)
class Minute:
    """What was seen in it and after it; times in ms, `others` counts answers that nothing deserves."""

    answered_per_s: float
    p50: float
    p99: float
    others: int
    resident_mib: float
    files: int
    threads: int


def mixed() -> list[Body]:
    """A hundred bodies, in the order in which they are sent."""
    small, medium, large = PICTURES
    bodies = [raw(encoded(small, number)) for number in range(_SMALL)]
    bodies += [raw(encoded(medium, number)) for number in range(8)]
    bodies += [raw(encoded(large)), _BROKEN]
    return [bodies[number * 37 % len(bodies)] for number in range(len(bodies))]  # 37 visits every one


def minute(server: Server, bodies: Sequence[Body], rate: float, seconds: float) -> Minute:
    found = measurement.generate(server.port, server.path("raw"), bodies, rate, seconds)
    time.sleep(SETTLE_S)
    answered = found["statuses"].get(str(int(HTTPStatus.OK)), {"count": 0, "latency": {"p50": 0, "p99": 0}})
    counts = {int(status): each["count"] for status, each in found["statuses"].items()}
    own = server.own
    return Minute(
        answered_per_s=answered["count"] / found["seconds"],
        p50=answered["latency"]["p50"],
        p99=answered["latency"]["p99"],
        others=sum(count for status, count in counts.items() if status not in _DESERVED),
        resident_mib=processes.resident_bytes(own) / 2**20,
        files=processes.open_files(own),
        threads=processes.threads(own),
    )


def misses(minutes: Sequence[Minute]) -> list[str]:
    """What does not hold, of at least three minutes."""
    third = max(1, len(minutes) // 3)
    early, late = (median(each.p99 for each in part) for part in (minutes[:third], minutes[-third:]))
    second, last = minutes[1], minutes[-1]
    bars = {
        f"{last.resident_mib:.0f} MiB after {second.resident_mib:.0f}": (
            last.resident_mib <= GROWTH * second.resident_mib
        ),
        f"{last.files} open files after {second.files}": last.files <= second.files,
        f"{last.threads} threads after {second.threads}": last.threads <= second.threads,
        f"p99 {late:.0f} ms after {early:.0f}": late <= SLOWER * early,
        "answers that nothing deserves": not any(each.others for each in minutes),
    }
    return [what for what, holds in bars.items() if not holds]


def table(minutes: Sequence[Minute]) -> str:
    """In Markdown."""
    heads = ("minute", "200/s", "p50, ms", "p99, ms", "others", "resident, MiB", "open files", "threads")
    rows = [
        [
            *(str(number), f"{each.answered_per_s:.0f}", f"{each.p50:.1f}", f"{each.p99:.1f}"),
            *(str(each.others), f"{each.resident_mib:.1f}", str(each.files), str(each.threads)),
        ]
        for number, each in enumerate(minutes, 1)
    ]
    return report.markdown(heads, rows)


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument("--minutes", type=int, default=60, metavar="N", help="at least 3 (default: 60)")
    command.add_argument("--seconds", type=float, default=60, metavar="N", help="of a minute (default: 60)")
    command.add_argument(
        "--model", type=Path, default=Path("model/resnet18-cifar10"), metavar="PATH", help="what is served"
    )
    return command


def main() -> int:
    command = parser()
    options = command.parse_args()
    if options.minutes < 3:
        command.error(f"--minutes must be at least 3, not {options.minutes}")
    closed_loop.find_wrk()
    processes.adopt_orphans()
    ours = next(each for each in CONTENDERS if each.name == OURS)
    model, bodies = options.model.resolve(), mixed()
    version = Repository(model.parent).open(model.name).path
    with running(ours, version, Path(), PICTURES[0]) as server:
        measurement.warm_up(server)
        peak = closed_loop.run(server.port, server.path("raw"), bodies, clients=CAPACITY_CLIENTS, seconds=10)
        rate = SHARE * (peak.answered + peak.failed) / peak.seconds
        cores = machine.described()["cores"]
        say(f"{rate:.0f} requests a second for {options.minutes} minutes on {cores} cores")
        minutes = []
        for _ in range(options.minutes):
            minutes.append(minute(server, bodies, rate, options.seconds))
            say(table(minutes).splitlines()[-1])
    print(table(minutes))
    missed = misses(minutes)
    print("; ".join(missed) or "every bar holds")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
