"""Sends this service several times what it can do, and says what it still does.

    python benchmarks/overload.py
    python benchmarks/overload.py --seconds 10 --factors 5
    python benchmarks/overload.py --timeout-ms 300
    python benchmarks/overload.py --pictures 100

First one client tells what an answer takes, 32 in a closed loop what the peak is, and an open loop at 30 % of
that what a moderate load has to wait. Then, for each factor, an open loop sends that many times the peak,
whatever comes back, while the probes and /metrics are asked. Five seconds after each, that moderate load, one
client and 32 tell whether all is as before. The generator runs on the same cores: `left` is the share of them
that it leaves, and the goodput is compared with that share of the first peak. Every refusal must say in a
whole number of seconds when to try again: at least one, and no more than a request may take, since by then
whatever waits is answered or given up. With --timeout-ms, requests have that deadline, and a 504 is an answer
that came too late. With --pictures, requests of the flood are forms of so many for /predict/batch, and all
its rates are in pictures. It exits with 1 if a bar is missed.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, Self

import closed_loop
import machine
import measurement
import placement
import processes
import report
from contenders import CONTENDERS, OURS, ROOT
from latency import percentile
from load import Body, form
from measurement import CAPACITY_CLIENTS
from pictures import PICTURES
from prober import Prober
from runner import say
from server import Server, running

from app.repository import Repository
from app.settings import Settings

PEAK_S: Final = 5.0
RECOVERY_S: Final = 5.0
MODERATE: Final = 0.3  # of the first peak
MODERATE_S: Final = 2.0
ROUNDS: Final = 5  # neighbours disturb one or two of them, and not the median
BATCH: Final = "/predict/batch"
RESULTS: Final = ROOT / "benchmarks" / "results"

GOODPUT: Final = 0.85
LATE: Final = 0.05  # of what is answered in time
PROBE_WITHIN_MS: Final = 100.0
REFUSED_WITHIN_MS: Final = 50.0
AS_BEFORE: Final = 1.5  # times the p50 of one client
CALM_AGAIN: Final = 2.0  # times the p99 of the moderate load, which a shared machine moves by itself
RETRY_S: Final = range(1, ceil(Settings.model_fields["request_timeout_s"].default) + 1)
STILL: Final = 0.9  # of the first peak, afterwards
GROWTH: Final = 1.25  # of resident memory


class Calm(NamedTuple):
    """What there was before all factors: times in ms, the peak in images per second."""

    p50: float
    p99: float
    peak: float
    moderate_p99: float

    @classmethod
    def of(cls, server: Server) -> Self:
        p50, p99 = alone(server)
        first_peak = peak(server)
        return cls(p50, p99, first_peak, moderate(server, first_peak))


@dataclass(frozen=True)
class Flood:
    """One factor. Shares are of the peak; times are in ms; `left` is the share of the cores for the service.

    `peak` is what came before all factors and `peak_after` what came after this one, in images per second.
    `late` counts answers that were a 504 because of the requests' own deadline, and `other` what else is
    neither 200 nor 503, with requests that had no answer; `most_late` is how late the generator itself sent a
    request at worst. `retry_after` counts refusals by that header of theirs, and `moderate_p99` is that of
    the moderate load, before all factors and after this one.
    """

    factor: float
    rate: float
    peak: float
    peak_after: float
    answered_per_s: float
    refused_per_s: float
    late_per_s: float
    other: int
    left: float
    answered_p50: float
    answered_p99: float
    refused_p50: float
    refused_p99: float
    retry_after: dict[str, int]
    probe_p99: float
    probe_most: float
    after_p50: float
    after_p99: float
    moderate_p99_before: float
    moderate_p99: float
    resident_before_mib: float
    resident_mib: float
    most_late: float

    @property
    def goodput(self) -> float:
        return self.answered_per_s / (self.peak * self.left)

    @property
    def aimless(self) -> int:
        """Refusals that do not say when to try again, or nothing sensible."""
        return sum(count for text, count in self.retry_after.items() if not _is_sensible(text))

    def misses(self, before_p50: float) -> list[str]:
        """The bars that it misses."""
        bars = {
            f"goodput {self.goodput:.0%} of the peak that was left": self.goodput >= GOODPUT,
            f"{self.late_per_s:.0f} answers a second too late": self.late_per_s <= LATE * self.answered_per_s,
            f"{self.other} answers that are neither 200 nor 503": self.other == 0,
            f"probes p99 {self.probe_p99:.0f} ms": self.probe_p99 <= PROBE_WITHIN_MS,
            f"refusals p99 {self.refused_p99:.0f} ms": self.refused_p99 <= REFUSED_WITHIN_MS,
            f"{self.aimless} refusals without a sensible Retry-After": self.aimless == 0,
            f"peak {self.peak_after:.0f} afterwards": self.peak_after >= STILL * self.peak,
            f"p50 {self.after_p50:.1f} ms afterwards": self.after_p50 <= AS_BEFORE * before_p50,
            f"p99 of a moderate load {self.moderate_p99:.0f} ms after {self.moderate_p99_before:.0f}": (
                self.moderate_p99 <= CALM_AGAIN * self.moderate_p99_before
            ),
            f"{self.resident_mib:.0f} MiB after {self.resident_before_mib:.0f}": (
                self.resident_mib <= GROWTH * self.resident_before_mib
            ),
        }
        return [what for what, holds in bars.items() if not holds]


def _is_sensible(retry_after: str) -> bool:
    return retry_after.isascii() and retry_after.isdecimal() and int(retry_after) in RETRY_S


def flood(server: Server, factor: float, calm: Calm, cores: int, asked: argparse.Namespace) -> Flood:
    rate, seconds, pictures = factor * calm.peak, asked.seconds, asked.pictures
    options = [] if asked.timeout_ms is None else ["--timeout-ms", str(asked.timeout_ms)]
    before_mib = processes.resident_bytes(server.own) / 2**20
    prober = Prober(server.port)
    prober.start()
    found = measurement.generate(server.port, *requests(server, pictures), rate / pictures, seconds, options)
    probes = prober.stop()
    resident = processes.resident_bytes(server.own) / 2**20
    time.sleep(RECOVERY_S)
    moderate_p99 = moderate(server, calm.peak)
    after = alone(server)
    statuses = {int(status): each for status, each in found["statuses"].items()}
    own = (200, 503, 504) if asked.timeout_ms else (200, 503)
    per_s = pictures / found["seconds"]
    answered, refused, *late = (statuses.pop(status, {"count": 0, "latency": {}}) for status in own)
    left = 1 - found["cpu_s"] / (cores * found["seconds"])
    return Flood(
        factor=factor,
        rate=rate,
        peak=calm.peak,
        peak_after=peak(server),
        answered_per_s=answered["count"] * per_s,
        refused_per_s=refused["count"] * per_s,
        late_per_s=sum(each["count"] for each in late) * per_s,
        other=sum(each["count"] for each in statuses.values()),
        left=left,
        answered_p50=answered["latency"].get("p50", 0.0),
        answered_p99=answered["latency"].get("p99", 0.0),
        refused_p50=refused["latency"].get("p50", 0.0),
        refused_p99=refused["latency"].get("p99", 0.0),
        retry_after=found["retry_after"],
        probe_p99=1000 * percentile(probes, 0.99),
        probe_most=1000 * probes[-1],
        after_p50=after[0],
        after_p99=after[1],
        moderate_p99_before=calm.moderate_p99,
        moderate_p99=moderate_p99,
        resident_before_mib=before_mib,
        resident_mib=resident,
        most_late=found["most_late_ms"],
    )


def requests(server: Server, pictures: int) -> tuple[str, list[Body]]:
    """The path and what is sent to it."""
    bodies = server.bodies("raw", PICTURES[0])
    if pictures == 1:
        return server.path("raw"), bodies
    files = [bodies[number % len(bodies)].data for number in range(pictures)]
    return BATCH, [form(files, "file", PICTURES[0].content_type)]


def peak(server: Server) -> float:
    """What 32 clients get, in images per second."""
    return measurement.closed_cell(server, PICTURES[0], "raw", CAPACITY_CLIENTS, PEAK_S).load.per_s


def alone(server: Server) -> tuple[float, float]:
    """p50 and p99 of one client, in ms."""
    latency = measurement.closed_cell(server, PICTURES[0], "raw", 1, 3.0).load.latency
    return (latency.p50, latency.p99) if latency else (float("inf"), float("inf"))


def moderate(server: Server, first_peak: float) -> float:
    """p99 of an open loop well below the peak, in ms: the median of short rounds."""
    path, bodies = server.path("raw"), server.bodies("raw", PICTURES[0])
    loads = [
        measurement.open_loop(server.port, path, bodies, MODERATE * first_peak, MODERATE_S, even=False)
        for _ in range(ROUNDS)
    ]
    return median(load.latency.p99 if load.latency and not load.failed else float("inf") for load in loads)


def table(floods: Sequence[Flood]) -> str:
    """In Markdown."""
    heads = (
        *("offered", "sent/s", "peak after", "200/s", "503/s", "504/s", "other", "goodput"),
        *("200 p50", "200 p99", "503 p50", "503 p99", "probes p99", "slowest"),
        *("1 client afterwards, p50", "p99", "moderate load 5 s later, p99", "sent late at worst"),
        *("resident, MiB", "Retry-After, s"),
    )
    rows = [
        [
            *(f"{each.factor:g} x", f"{each.rate:.0f}", f"{each.peak_after:.0f}"),
            *(
                f"{each.answered_per_s:.0f}",
                f"{each.refused_per_s:.0f}",
                f"{each.late_per_s:.0f}",
                str(each.other),
                f"{each.goodput:.0%} ({each.left:.0%} left)",
            ),
            *(f"{time:.1f}" for time in _times(each)),
            *(
                f"{each.resident_mib:.0f}",
                ", ".join(sorted(each.retry_after, key=lambda text: text.zfill(9))),
            ),
        ]
        for each in floods
    ]
    return report.markdown(heads, rows)


def _times(each: Flood) -> tuple[float, ...]:
    answers = (each.answered_p50, each.answered_p99, each.refused_p50, each.refused_p99)
    after = (each.after_p50, each.after_p99, each.moderate_p99)
    return (*answers, each.probe_p99, each.probe_most, *after, each.most_late)


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument(
        "--factors", type=float, nargs="+", default=[2, 5, 10], metavar="N", help="times the peak"
    )
    command.add_argument("--seconds", type=float, default=60, metavar="N", help="of each (default: 60)")
    command.add_argument(
        "--timeout-ms", type=int, metavar="N", help="the deadline of each request (default: none of its own)"
    )
    command.add_argument(
        "--pictures", type=int, default=1, metavar="N", help="in one request (default: 1, to /predict)"
    )
    command.add_argument(
        "--model", type=Path, default=Path("model/resnet18-cifar10"), metavar="PATH", help="what is served"
    )
    placement.add_option(command)
    command.add_argument("--out", type=Path, default=RESULTS, metavar="PATH", help="folder of the results")
    return command


def publish(document: dict[str, Any], floods: Sequence[Flood], out: Path, where: dict[str, Any]) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"{document['date'][:10]}-{machine.slug(where)}-overload"
    timeout_ms, pictures, what = document["timeout_ms"], document["pictures"], ""
    if timeout_ms is not None:
        stem = stem.with_name(f"{stem.name}-{timeout_ms}ms")
        what += f" Each request has a deadline of {timeout_ms} ms."
    if pictures > 1:
        stem = stem.with_name(f"{stem.name}-{pictures}-pictures")
        what += f" Each request has {pictures} pictures, and rates are in pictures."
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    head = (
        f"# Overload, {document['date']}\n\n{where['cores']} cores of {where['processor']}. Peak with "
        f"{CAPACITY_CLIENTS} clients: {document['peak_per_s']:.0f} images/s; one client: p50 "
        f"{document['before'][0]:.1f} ms, p99 {document['before'][1]:.1f} ms; p99 at {MODERATE:.0%} of the "
        f"peak: {document['moderate_p99']:.1f} ms. Each factor for {document['seconds']:g} s.{what} Times in "
        "ms.\n\n"
    )
    stem.with_suffix(".md").write_text(head + table(floods) + "\n")
    return stem


def main() -> int:
    options = parser().parse_args()
    closed_loop.find_wrk()
    processes.adopt_orphans()
    placement.keep_for_load(options.load_cores)
    where = machine.described()
    ours = next(each for each in CONTENDERS if each.name == OURS)
    model = options.model.resolve()
    version = Repository(model.parent).open(model.name).path
    with running(ours, version, Path(), PICTURES[0]) as server:
        measurement.warm_up(server)
        calm = Calm.of(server)
        say(
            f"peak {calm.peak:.0f} images/s; one client p50 {calm.p50:.1f} ms, p99 {calm.p99:.1f} ms; "
            f"p99 at {MODERATE:.0%} of the peak {calm.moderate_p99:.1f} ms"
        )
        floods = []
        for factor in options.factors:
            found = flood(server, factor, calm, where["cores"], options)
            floods.append(found)
            say(f"{factor:g} times the peak: {'; '.join(found.misses(calm.p50)) or 'every bar holds'}")
    document = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": where,
        "seconds": options.seconds,
        "timeout_ms": options.timeout_ms,
        "pictures": options.pictures,
        "peak_per_s": calm.peak,
        "before": (calm.p50, calm.p99),
        "moderate_p99": calm.moderate_p99,
        "floods": [asdict(each) | {"goodput": each.goodput} for each in floods],
    }
    print(table(floods))
    print(f"Written to {publish(document, floods, options.out, where)}.json and .md")
    return int(any(each.misses(calm.p50) for each in floods))


if __name__ == "__main__":
    sys.exit(main())
