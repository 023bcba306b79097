"""A run as a page to read: tables in Markdown and one plot."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import bars
from contenders import OURS
from measurement import Cell, Round, Turn
from pictures import PICTURES

NOISE: Final = 1.05  # a difference below this is none
_HEADS: Final = (
    ("server", "engine", "body", "clients"),
    ("images/s", "p50", "p90", "p99", "p99.9", "failed", "CPU ms per image"),
)


def page(document: dict[str, Any], run: bars.Run, judged: Sequence[bars.Bar], plot: str) -> str:
    """All of it, in Markdown."""
    parts = [
        f"# Servers compared, {document['date']}",
        _circumstances(document),
        f"![Servers compared]({plot})",
        "## Bars",
        bars.table(judged),
        *_in_turn(run),
        "## Where this service loses",
        losses(run),
        "## Start and memory",
        starts(run.turns),
    ]
    for picture in PICTURES:
        cells = [(turn, cell) for turn in run.turns for cell in turn.cells if cell.picture == picture.name]
        if cells:
            parts += [f"## {picture.title}, closed loop", closed_table(cells)]
    parts += ["## Open loop", open_table(run.turns), "## Settings", settings(run.turns)]
    return "\n\n".join(parts) + "\n"


def _circumstances(document: dict[str, Any]) -> str:
    machine = document["machine"]
    probes = document["raw_per_s"]
    instructions = ", ".join(machine["instructions"])
    load = machine["load_cores"] or "none"
    return (
        f"{machine['cores']} cores of {machine['processor']} ({instructions}), and {load} for the load "
        f"alone; load average {machine['load_average']} before the run. Command: `{document['command']}`. "
        f"The engine alone ({document['engine']}) did {min(probes):.0f} to {max(probes):.0f} images/s. Times "
        "are in ms; memory that processes share counts once; processor time is that of all processes of a "
        "server."
    )


def _in_turn(run: bars.Run) -> Iterator[str]:
    """What the share of the engine alone is judged from."""
    ours = run.turn(OURS)
    if ours and ours.rounds:
        yield "## This service and the engine alone, in turn"
        yield rounds_table(ours.rounds, run.cores)


def rounds_table(rounds: Sequence[Round], cores: int) -> str:
    """In images per second, and shares."""
    rows = [
        [
            *(str(number), f"{each.before_per_s:.0f}", f"{each.cell.load.per_s:.0f}"),
            *(f"{each.after_per_s:.0f}", f"{each.generator(cores):.1%}"),
            f"{each.share(cores):.1%}" if each.raw_per_s else "-",
        ]
        for number, each in enumerate(rounds, start=1)
    ]
    heads = ("engine alone before", "this service", "engine alone after", "generator, of the cores", "share")
    return markdown(["round", *heads], rows)


def closed_table(cells: Sequence[tuple[Turn, Cell]]) -> str:
    rows = [
        [turn.title, turn.engine, cell.body, str(cell.clients), *_numbers(cell)]
        for turn, cell in sorted(cells, key=lambda each: (each[1].body, each[1].clients))
        if cell.clients
    ]
    return markdown([*_HEADS[0], *_HEADS[1]], rows)


def open_table(turns: Sequence[Turn]) -> str:
    rows = [
        [turn.title, turn.engine, f"{cell.rate:.0f}/s", "even" if cell.even else "random", *_numbers(cell)]
        for turn in turns
        for cell in turn.cells
        if not cell.clients
    ]
    return markdown(["server", "engine", "rate", "arrivals", *_HEADS[1]], rows)


def starts(turns: Sequence[Turn]) -> str:
    rows = [
        [turn.title, turn.engine, f"{turn.ready_s:.1f}", f"{turn.resident_mib:.0f}", f"{turn.raw_per_s:.0f}"]
        if turn.cells
        else [turn.title, turn.engine, turn.reason, "", ""]
        for turn in turns
    ]
    heads = ["server", "engine", "ready after, s", "resident, MiB", "engine alone around it, images/s"]
    return markdown(heads, rows)


def settings(turns: Sequence[Turn]) -> str:
    rows = [
        [turn.title, turn.engine, f"`{assignments(turn.settings)}`" if turn.settings else "its defaults"]
        for turn in turns
    ]
    return markdown(["server", "engine", "settings"], rows)


def assignments(settings: Mapping[str, str]) -> str:
    """As a shell takes them."""
    return " ".join(f"{name}={value}" for name, value in settings.items())


def losses(run: bars.Run) -> str:
    """Every measurement in which a peer was better, by more than the noise of a run."""
    ours = next((turn for turn in run.turns if turn.name == OURS), None)
    lines = [line for turn in run.turns if turn is not ours and ours for line in _lost(ours, turn)]
    return "\n".join(lines) if lines else "Nowhere in this run."


def _lost(ours: Turn, theirs: Turn) -> list[str]:
    lines = [line for cell in theirs.cells for line in _lost_cell(ours, theirs, cell)]
    if theirs.cells and theirs.resident_mib * NOISE < ours.resident_mib:
        memory = f"{theirs.resident_mib:.0f} MiB, {ours.resident_mib:.0f} here"
        lines.append(f"- {theirs.title} ({theirs.engine}): {memory}")
    return lines


def _lost_cell(ours: Turn, theirs: Turn, cell: Cell) -> Iterator[str]:
    mine = ours.cell(cell.picture, cell.clients, cell.body) if cell.clients else None
    if mine is None:
        return
    where = f"- {theirs.title} ({theirs.engine}), {cell.picture}, {cell.body}, {cell.clients} clients"
    if cell.load.per_s > NOISE * mine.load.per_s:
        yield f"{where}: {cell.load.per_s:.0f} images/s, {mine.load.per_s:.0f} here"
    if mine.load.failed and cell.load.answered and not cell.load.failed:
        failed = f"{mine.load.failed} of {mine.load.answered + mine.load.failed}"
        yield f"{where}: all {cell.load.answered} requests answered, {failed} were not here"
    here, there = mine.load.latency, cell.load.latency
    if here and there and here.p99 > NOISE * there.p99:
        yield f"{where}: p99 {there.p99:.1f} ms, {here.p99:.1f} here"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _numbers(cell: Cell) -> list[str]:
    latency = cell.load.latency
    times = (latency.p50, latency.p90, latency.p99, latency.p999) if latency else ()
    shown = [f"{time:.1f}" for time in times] or ["-"] * 4
    return [f"{cell.load.per_s:.1f}", *shown, str(cell.load.failed), f"{cell.cpu_ms:.2f}"]


def draw(run: bars.Run, path: Path) -> None:
    """A panel for each number that was compared, a bar for each server."""
    from matplotlib import pyplot as plt

    compared = panels(run.turns)
    rows = -(-len(compared) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(15, 4.7 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(compared) :]:
        axis.remove()
    for axis, (title, values) in zip(axes.flat, compared.items(), strict=False):
        names = [f"{turn.title}\n{turn.engine}" for turn, _ in values]
        colours = ["#d1495b" if turn.name == OURS else "#30638e" for turn, _ in values]
        shown = axis.barh(names, [value for _, value in values], color=colours)
        axis.bar_label(shown, fmt="%.1f", padding=3)
        axis.margins(x=0.12)
        axis.invert_yaxis()
        axis.set_title(title)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def panels(turns: Sequence[Turn]) -> dict[str, list[tuple[Turn, float]]]:
    """By title, the servers that were measured and what they got, where these are at least two."""

    def of(picture: str, clients: int, number: Callable[[Cell], float]) -> list[tuple[Turn, float]]:
        cells = [(turn, turn.cell(picture, clients)) for turn in turns]
        return [(turn, number(cell)) for turn, cell in cells if cell]

    found = {
        "32x32 PNG, 32 clients: images/s (more is better)": of("png32", 32, _per_s),
        "32x32 PNG, 1 client: p50 in ms (less is better)": of("png32", 1, _p50),
        "500x375 JPEG, 32 clients: images/s (more is better)": of("jpeg500", 32, _per_s),
        "12-megapixel JPEG, 8 clients: images/s (more is better)": of("jpeg12mp", 8, _per_s),
        "32x32 PNG, 32 clients: processor time per image, ms (less is better)": of(
            "png32", 32, lambda cell: cell.cpu_ms
        ),
        "Resident memory, MiB (less is better)": [(turn, turn.resident_mib) for turn in turns if turn.cells],
    }
    return {title: values for title, values in found.items() if len(values) > 1}


def _per_s(cell: Cell) -> float:
    return cell.load.per_s


def _p50(cell: Cell) -> float:
    return cell.load.latency.p50 if cell.load.latency else 0.0
