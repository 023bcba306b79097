"""Kills workers of this service under a moderate load, again and again, and says what that costs.

    python benchmarks/chaos.py --minutes 10

Callers ask two workers at random moments, half of the time over a connection that is kept, with the pictures
of soak.py, and compare every answer with the one that the same picture got before. Every few seconds a worker
is killed (-9) or, every third time, stopped for two seconds. Which one is drawn from --seed, one time in
three among those that may still load, but another one that takes connections is always left. A worker is
frozen before it is killed, so the connections that it holds are known: only what was on its way on these may
be lost, and a caller who tries again must get the right answer. It exits with 1 if anything else was lost or
wrong, if the service ended or did not end in order when it was told to, if a counter of /metrics fell, if
more probes failed than there were disturbances, or if at the end there are more processes or open files than
at the beginning, or a tenth more memory.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import processes
import soak
from caller import TRIES, Answer, Caller, Connection, Try
from contenders import CONTENDERS, OURS
from disturber import STOPPED_S, Disturber, Kill, is_whole, lives, wait_for
from latency import Latency
from load import Body
from pictures import PICTURES
from prober import FAILED_S, Prober
from prometheus_client.parser import text_string_to_metric_families
from runner import SETTLE_S, say
from server import Server, running

from app.repository import Repository

WORKERS: Final = 2
CALLERS: Final = 16
PAUSE_S: Final = 0.25  # of a caller between two requests, in the middle
SHORTLY_S: Final = 2.0  # after a kill
WARM_S: Final = 5.0
WHOLE_WITHIN_S: Final = 90.0  # pauses before a successor are up to 30 s
END_WITHIN_S: Final = 60.0
GROWTH: Final = 1.1


@dataclass(frozen=True)
class Footprint:
    """What the service takes while nobody asks."""

    processes: int
    files: int
    resident_mib: float

    @classmethod
    def of(cls, server: Server) -> "Footprint":
        own = server.own
        return cls(len(own), processes.open_files(own), processes.resident_bytes(own) / 2**20)


@dataclass
class Counters:
    """What /metrics counts; `fallen` names what was less than before, or was gone."""

    fallen: set[str] = field(default_factory=set)
    _last: dict[tuple[str, ...], float] = field(default_factory=dict)

    def see(self, path: str, body: bytes) -> None:
        if path != "/metrics":
            return
        found = {
            (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(body.decode())
            if family.type in ("counter", "histogram")
            for sample in family.samples
        }
        self.fallen |= {" ".join(key) for key, value in self._last.items() if found.get(key, -1.0) < value}
        self._last = found


@dataclass(frozen=True)
class Run:
    """What was done to the service and what it did; `probes` are seconds, `code` is that of its exit.

    `code` is None if it ended before it was told to, or not in time after.
    """

    kills: Sequence[Kill]
    stops: int
    tries: Sequence[Try]
    unanswered: int
    probes: Sequence[float]
    fallen: set[str]
    before: Footprint
    after: Footprint
    code: int | None

    @property
    def broken(self) -> list[Try]:
        return [tried for tried in self.tries if tried.answer is None]

    @property
    def lost(self) -> list[Try]:
        """Requests that were on their way in a worker that was killed."""
        return [tried for tried in self.broken if any(kill.cost(tried) for kill in self.kills)]

    def misses(self) -> list[str]:
        """What does not hold."""
        wrong = sum(tried.answer is not None and not tried.is_right for tried in self.tries)
        others = sum(not any(kill.broke(tried) for kill in self.kills) for tried in self.broken)
        held, failed = sum(len(kill.clients) for kill in self.kills), self.probes.count(FAILED_S)
        before, after = self.before, self.after
        bars = {
            f"exit code {self.code}": self.code == 0,
            f"{wrong} wrong answers": wrong == 0,
            f"{self.unanswered} requests without an answer at the end of {TRIES} tries": self.unanswered == 0,
            f"{others} connections broken that no killed worker held": others == 0,
            f"{len(self.lost)} requests lost of {held} connections held": len(self.lost) <= held,
            f"{failed} probes failed": failed <= len(self.kills) + self.stops,
            f"counters that fell: {', '.join(sorted(self.fallen))}": not self.fallen,
            f"{after.processes} processes after {before.processes}": after.processes <= before.processes,
            f"{after.files} open files after {before.files}": after.files <= before.files,
            f"{after.resident_mib:.0f} MiB after {before.resident_mib:.0f}": (
                after.resident_mib <= GROWTH * before.resident_mib
            ),
        }
        return [what for what, holds in bars.items() if not holds]

    def told(self) -> Iterator[str]:
        """In lines."""
        held, idle = sum(len(kill.clients) for kill in self.kills), len(self.broken) - len(self.lost)
        idle_workers = sum(not kill.clients for kill in self.kills)
        yield (
            f"{len(self.kills)} workers killed, of which {idle_workers} held no connection; {self.stops} "
            f"stopped for {STOPPED_S:g} s"
        )
        yield (
            f"{len(self.tries):,} requests; of {held} connections that killed workers held, {len(self.lost)} "
            f"cost a request on its way, {idle} were found closed by the next"
        )
        yield f"{len(self.probes)} probes, {self.probes.count(FAILED_S)} failed"
        shortly = [tried for tried in self.tries if self._is_shortly_after(tried)]
        for when, part in ((f"within {SHORTLY_S:g} s after a kill", shortly), ("of all", self.tries)):
            if took := [tried.ended - tried.began for tried in part if tried.answer is not None]:
                found = Latency.of(took)
                yield f"answers {when}: p50 {found.p50:.0f} ms, p99 {found.p99:.0f}, longest {found.most:.0f}"
        for when, took_up in (("before", self.before), ("after", self.after)):
            mib = f"{took_up.resident_mib:.0f} MiB"
            yield f"{when}: {took_up.processes} processes, {took_up.files} open files, {mib}"

    def _is_shortly_after(self, tried: Try) -> bool:
        return any(kill.killed <= tried.began < kill.killed + SHORTLY_S for kill in self.kills)


def expected(server: Server, bodies: Sequence[Body]) -> list[tuple[Body, Answer]]:
    """What each of them is answered with while nothing happens."""
    connection = Connection(server.port)
    answers = [connection.ask(server.path("raw"), body).answer for body in bodies]
    connection.close()
    return [(body, answer) for body, answer in zip(bodies, answers, strict=True) if answer is not None]


@contextmanager
def asking(server: Server, questions: Sequence[tuple[Body, Answer]]) -> Iterator[list[Caller]]:
    """Callers who ask meanwhile."""
    found = [Caller(server.port, server.path("raw"), questions, PAUSE_S, seed) for seed in range(CALLERS)]
    for caller in found:
        caller.start()
    try:
        yield found
    finally:
        for caller in found:
            caller.stop()


def footprint(server: Server, questions: Sequence[tuple[Body, Answer]]) -> Footprint:
    """Of a service that is whole and has answered for a while."""
    wait_for(lambda: is_whole(server, WORKERS), WHOLE_WITHIN_S)
    with asking(server, questions):
        time.sleep(WARM_S)
    time.sleep(SETTLE_S)
    return Footprint.of(server)


def ended(server: Server) -> int | None:
    """The exit code of a service that is told to stop; see `Run.code`."""
    if server.process is None or not lives(server):
        return None
    server.process.terminate()
    wait_for(lambda: not lives(server), END_WITHIN_S)
    return server.process.returncode


def measure(server: Server, questions: Sequence[tuple[Body, Answer]], minutes: float, seed: int) -> Run:
    before = footprint(server, questions)
    counters, disturber = Counters(), Disturber(server, seed)
    prober = Prober(server.port, counters.see)
    prober.start()
    with asking(server, questions) as callers:
        disturber.run(time.monotonic() + 60 * minutes)
    probes, after = prober.stop(), footprint(server, questions)
    return Run(
        kills=disturber.kills,
        stops=disturber.stops,
        tries=[tried for caller in callers for tried in caller.tries],
        unanswered=sum(caller.unanswered for caller in callers),
        probes=probes,
        fallen=counters.fallen,
        before=before,
        after=after,
        code=ended(server),
    )


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument(
        "--minutes", type=float, default=10, metavar="N", help="of disturbances (default: 10)"
    )
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of what is done to whom (default: 0)"
    )
    command.add_argument(
        "--model", type=Path, default=Path("model/resnet18-cifar10"), metavar="PATH", help="what is served"
    )
    return command


def main() -> int:
    options = parser().parse_args()
    processes.adopt_orphans()
    ours = next(each for each in CONTENDERS if each.name == OURS)
    several = ours.with_settings({"CLASSIFIER_WORKERS": str(WORKERS)})
    model = options.model.resolve()
    version = Repository(model.parent).open(model.name).path
    with running(several, version, Path(), PICTURES[0]) as server:
        questions = expected(server, soak.mixed())
        say(f"{CALLERS} callers, {WORKERS} workers, {options.minutes:g} minutes, seed {options.seed}")
        run = measure(server, questions, options.minutes, options.seed)
    print("\n".join(run.told()))
    missed = run.misses()
    print("; ".join(missed) or "every bar holds")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
