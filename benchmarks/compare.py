"""Starts this service and the same job built on its peers, in turn, and measures them under the same load.

    python benchmarks/compare.py --quick
    python benchmarks/compare.py --only ours,litserve-int8

All serve the same published version on the same cores. Every peer has an environment of its own, which the
first run makes. A server is started, checked against the engine's own probabilities, warmed up, measured and
ended before the next one starts; the engine alone runs before and after each turn, so that a machine that has
become slower shows. Results go to benchmarks/results/ as JSON, as a page in Markdown and as a plot, and the
bars are printed.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import bars
import closed_loop
import large_jpeg
import machine
import measurement
import numpy as np
import processes
import report
from contenders import CONTENDERS, INT8, OURS, ROOT, Contender
from environments import InstallationError, prepare
from measurement import CAPACITY_CLIENTS, FULL, QUICK, Plan, Turn
from numpy.typing import NDArray
from pictures import PICTURES, encoded
from PIL import Image
from raw_engine import RawEngine
from server import Server, ServerError, running

from app.repository import Repository

RESULTS: Final = ROOT / "benchmarks" / "results"
ENVIRONMENTS: Final = ROOT / ".peers"
AGREEMENT: Final = 0.15  # in probability: int8 against float32, and a reduced decode against a full one

say = partial(print, flush=True)


def parser() -> argparse.ArgumentParser:
    names = ", ".join(each.name for each in CONTENDERS)
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument(
        "--quick", action="store_true", help="fewer and shorter measurements: 3 to 4 minutes"
    )
    command.add_argument("--only", metavar="NAMES", help=f"these alone, separated by commas: {names}")
    command.add_argument("--tune", action="store_true", help="try every setting of the peers instead")
    command.add_argument(
        "--rounds", type=int, default=1, metavar="N", help="turns of each; the median one counts (default: 1)"
    )
    command.add_argument("--seconds", type=float, metavar="N", help="of each measurement (default: 10, or 3)")
    command.add_argument(
        "--model", type=Path, default=Path("model/resnet18-cifar10"), metavar="PATH", help="what is served"
    )
    command.add_argument("--version", default="latest", metavar="N", help="of the model (default: latest)")
    command.add_argument(
        "--environments", type=Path, default=ENVIRONMENTS, metavar="PATH", help="where they are kept"
    )
    command.add_argument("--out", type=Path, default=RESULTS, metavar="PATH", help="folder of the results")
    return command


class Comparison:
    """One run over several contenders."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.plan = _plan(options)
        self.environments = options.environments.resolve()
        repository = Repository(options.model.resolve().parent)
        number = None if options.version == "latest" else int(options.version)
        found = repository.open(options.model.name, number)
        self.version = found.path
        size = found.manifest.input
        self.raw = RawEngine(_engine(found.path), found.path, (size.height, size.width, size.channels))
        self.expected = [self._expected(encoded(picture), (size.width, size.height)) for picture in PICTURES]

    def turn(self, contender: Contender) -> Turn:
        """Everything about one server; one that cannot be measured has a reason instead."""
        turn = Turn(contender.name, contender.title, contender.engine, dict(contender.settings))
        before = self.raw.probe()
        try:
            if contender.environment is not None:
                prepare(contender.environment, self.environments)
            with running(contender, self.version, self.environments, PICTURES[0]) as server:
                self._measure(server, turn)
        except (InstallationError, ServerError, OSError) as error:
            turn.reason = str(error)
            say(f"{contender.name} is left out: {error}")
        turn.raw_per_s = (before + self.raw.probe()) / 2
        return turn

    def _measure(self, server: Server, turn: Turn) -> None:
        turn.ready_s = server.ready_s
        turn.engine = _engine_of(server) or turn.engine
        self._check(server)
        measurement.warm_up(server)
        for cell in measurement.closed(server, self.plan):
            turn.cells.append(cell)
            say(f"{turn.name:<20} {_line(cell)}")
        if turn.capacity and (turn.name == OURS or self.plan.every_body):
            for cell in measurement.opened(server, self.plan, turn.capacity):
                turn.cells.append(cell)
                say(f"{turn.name:<20} {_line(cell)}")
        turn.resident_mib = processes.resident_bytes(server.own) / 2**20

    def _check(self, server: Server) -> None:
        """A server that answers something else does another job.

        Raises:
            ServerError: for a picture its probabilities are not those of the engine.
        """
        for picture, expected in zip(PICTURES, self.expected, strict=True):
            for kind in server.contender.routes:
                apart = float(np.abs(server.ask(kind, picture) - expected).max())
                if apart > AGREEMENT:
                    raise ServerError(f"Its answer for the {picture.title} is off by {apart:.2f}.")

    def _expected(self, data: bytes, size: tuple[int, int]) -> NDArray[np.float32]:
        image = Image.open(BytesIO(data)).convert("RGB").resize(size)
        probabilities: NDArray[np.float32] = self.raw.predict(np.asarray(image)[np.newaxis])[0]
        return probabilities


def _engine_of(server: Server) -> str:
    """What this service says that it runs on; peers run on what they are told."""
    answer = server.answer(server.contender.main_body, PICTURES[0])
    model = answer.get("model", {}) if isinstance(answer, dict) else {}
    return "-".join(filter(None, (model.get("engine"), model.get("precision"))))


def _engine(folder: Path) -> str:
    return INT8 if (folder / "openvino" / "int8.xml").is_file() else "auto"


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else FULL
    return replace(plan, seconds=options.seconds) if options.seconds else plan


def _line(cell: measurement.Cell) -> str:
    how = (
        f"{cell.clients:>3} clients"
        if cell.clients
        else f"{cell.rate:.0f}/s {'even' if cell.even else 'random'}"
    )
    latency = cell.load.latency
    times = f"p50 {latency.p50:7.1f} ms  p99 {latency.p99:7.1f} ms" if latency else "no answer"
    failed = f"  {cell.load.failed} FAILED" if cell.load.failed else ""
    return f"{cell.picture:<9} {cell.body:<10} {how:<15} {cell.load.per_s:7.1f}/s  {times}{failed}"


def chosen(names: str | None) -> Sequence[Contender]:
    if names is None:
        return CONTENDERS
    known = {each.name: each for each in CONTENDERS}
    asked = names.split(",")
    for name in asked:
        if name not in known:
            sys.exit(f"There is no server {name!r} to compare; there are: {', '.join(known)}.")
    return [known[name] for name in asked]


def tune(comparison: Comparison, contenders: Sequence[Contender]) -> None:
    """Prints what every setting gives at 32 clients, by the smallest picture."""
    for contender in contenders:
        for settings in contender.tried:
            changed = contender.with_settings(settings)
            try:
                with running(changed, comparison.version, comparison.environments, PICTURES[0]) as server:
                    measurement.warm_up(server)
                    kind, seconds = contender.main_body, comparison.plan.seconds
                    cell = measurement.closed_cell(server, PICTURES[0], kind, CAPACITY_CLIENTS, seconds)
                say(f"{contender.name:<16} {_line(cell)}  {report.assignments(settings)}")
            except ServerError as error:
                say(f"{contender.name:<16} {error}")


def median_turns(turns: Sequence[Turn]) -> list[Turn]:
    """Of each server the turn whose images per second are the median of its turns."""
    by_name: dict[str, list[Turn]] = {}
    for turn in turns:
        by_name.setdefault(turn.name, []).append(turn)
    ranked = (sorted(each, key=lambda turn: turn.capacity) for each in by_name.values())
    return [each[len(each) // 2] for each in ranked]


def publish(comparison: Comparison, turns: list[Turn], out: Path, where: dict[str, Any]) -> None:
    """Writes the three files and prints the bars."""
    out.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    stem = out / f"{now:%Y-%m-%d}-{machine.slug(where)}"
    run = bars.Run(median_turns(turns), where["cores"], large_jpeg.compare(rounds=7))
    judged = bars.judge(run)
    document = {
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "command": shlex.join(["python", "benchmarks/compare.py", *_shown(sys.argv[1:])]),
        "machine": where,
        "engine": comparison.raw.title,
        "plan": asdict(comparison.plan),
        "raw_per_s": comparison.raw.probes,
        "large_jpeg": asdict(run.large_jpeg),
        "bars": [asdict(bar) | {"verdict": bar.verdict} for bar in judged],
        "turns": [turn.document() for turn in turns],
    }
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    stem.with_suffix(".md").write_text(report.page(document, run, judged, f"{stem.name}.png"))
    report.draw(run, stem.with_suffix(".png"))
    say("\n" + bars.table(judged))
    say(f"\nWhere this service loses:\n{report.losses(run)}\n\nWritten to {stem}.json, .md and .png")


def _shown(arguments: Sequence[str]) -> list[str]:
    """Without the folders of this machine."""
    return [argument for argument in arguments if not argument.startswith(("/", "~"))]


def main() -> int:
    options = parser().parse_args()
    contenders = chosen(options.only)
    closed_loop.find_wrk()
    processes.adopt_orphans()
    where = machine.described()
    began = time.monotonic()
    comparison = Comparison(options)
    if options.tune:
        tune(comparison, contenders)
        return 0
    turns = [comparison.turn(contender) for _ in range(options.rounds) for contender in contenders]
    publish(comparison, turns, options.out, where)
    say(f"It took {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
