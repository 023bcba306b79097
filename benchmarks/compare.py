"""Starts this service and the same job built on its peers, in turn, and measures them under the same load.

    python benchmarks/compare.py --quick
    python benchmarks/compare.py --only ours,litserve-int8

All serve the same published version on the same cores. Every peer has an environment of its own, which the
first run makes. A server is started, checked against the engine's own probabilities, warmed up, measured and
ended before the next one starts; the engine alone runs before and after each turn, so that a machine that has
become slower shows, and in turn with this service, for its share of what the engine could do. Results go to
benchmarks/results/ as JSON, as a page in Markdown and as a plot, and the bars are printed.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import bars
import closed_loop
import large_jpeg
import machine
import measurement
import placement
import processes
import report
from contenders import CONTENDERS, ROOT, Contender
from measurement import CAPACITY_CLIENTS, FULL, QUICK, Plan, Turn
from pictures import PICTURES
from runner import FAILURES, Runner, line, say
from server import running

from app.errors import ServiceError
from app.repository import Repository, Version

RESULTS: Final = ROOT / "benchmarks" / "results"
ENVIRONMENTS: Final = ROOT / ".peers"


def parser() -> argparse.ArgumentParser:
    names = ", ".join(each.name for each in CONTENDERS)
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument("--quick", action="store_true", help="what the bars need and no more: 3 minutes")
    command.add_argument("--only", metavar="NAMES", help=f"these alone, separated by commas: {names}")
    command.add_argument("--tune", action="store_true", help="try every setting of the peers instead")
    command.add_argument(
        "--rounds", type=int, default=1, metavar="N", help="turns of each; the median one counts (default: 1)"
    )
    command.add_argument("--seconds", type=float, metavar="N", help="of each measurement (default: 10, or 2)")
    command.add_argument(
        "--model", type=Path, default=Path("model/resnet18-cifar10"), metavar="PATH", help="what is served"
    )
    command.add_argument("--version", type=int, metavar="N", help="of the model (default: the latest)")
    command.add_argument(
        "--environments", type=Path, default=ENVIRONMENTS, metavar="PATH", help="where they are kept"
    )
    placement.add_option(command)
    command.add_argument("--out", type=Path, default=RESULTS, metavar="PATH", help="folder of the results")
    return command


def _version(options: argparse.Namespace) -> Version:
    try:
        return Repository(options.model.resolve().parent).open(options.model.name, options.version)
    except ServiceError as error:
        sys.exit(str(error))


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else FULL
    return replace(plan, seconds=options.seconds) if options.seconds else plan


def chosen(names: str | None) -> Sequence[Contender]:
    if names is None:
        return CONTENDERS
    known = {each.name: each for each in CONTENDERS}
    asked = names.split(",")
    for name in asked:
        if name not in known:
            sys.exit(f"There is no server {name!r} to compare; there are: {', '.join(known)}.")
    return [known[name] for name in asked]


def tune(runner: Runner, contenders: Sequence[Contender]) -> None:
    """Prints what every setting gives at 32 clients, by the smallest picture."""
    for contender in contenders:
        for settings in contender.tried:
            changed = contender.with_settings(settings)
            try:
                with running(changed, runner.version, runner.environments, PICTURES[0]) as server:
                    measurement.warm_up(server)
                    kind, seconds = contender.main_body, runner.plan.seconds
                    cell = measurement.closed_cell(server, PICTURES[0], kind, CAPACITY_CLIENTS, seconds)
                say(f"{contender.name:<16} {line(cell)}  {report.assignments(settings)}")
            except FAILURES as error:
                say(f"{contender.name:<16} {error}")


def median_turns(turns: Sequence[Turn]) -> list[Turn]:
    """Of each server the turn whose images per second are the median of its turns."""
    by_name: dict[str, list[Turn]] = {}
    for turn in turns:
        by_name.setdefault(turn.name, []).append(turn)
    ranked = (sorted(each, key=lambda turn: turn.capacity) for each in by_name.values())
    return [each[len(each) // 2] for each in ranked]


def publish(runner: Runner, turns: list[Turn], out: Path, where: dict[str, Any]) -> None:
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
        "engine": runner.raw.title,
        "plan": asdict(runner.plan),
        "raw_per_s": runner.raw.probes,
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
    placement.keep_for_load(options.load_cores)
    where = machine.described()
    began = time.monotonic()
    runner = Runner(_plan(options), _version(options), options.environments.resolve())
    if options.tune:
        tune(runner, contenders)
        return 0
    turns = [runner.turn(contender) for _ in range(options.rounds) for contender in contenders]
    publish(runner, turns, options.out, where)
    say(f"It took {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
