"""What this service promises against its peers, judged from one run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from contenders import BASELINE, OURS, TENSORFLOW
from large_jpeg import Comparison
from measurement import Turn

PICTURE: Final = "png32"
MOST_LEVELS: Final = 1.0
SHARE: Final = 0.7


@dataclass(frozen=True)
class Bar:
    """`value` is what was measured, None where something it needs was not; `numbers` led to it."""

    title: str
    value: float | None
    bound: float
    at_most: bool
    numbers: str

    @property
    def holds(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    @property
    def verdict(self) -> str:
        return {None: "not measured", True: "holds", False: "misses"}[self.holds]


@dataclass(frozen=True)
class Run:
    """What the bars are judged from; everything ran on so many `cores`."""

    turns: Sequence[Turn]
    cores: int
    large_jpeg: Comparison

    def turn(self, name: str) -> Turn | None:
        return next((turn for turn in self.turns if turn.name == name and turn.cells), None)

    def best(self, engine: str) -> Turn | None:
        """The fastest peer on this engine."""
        peers = [turn for turn in self.turns if turn.engine == engine and turn.name != OURS]
        return max(peers, key=lambda turn: turn.capacity, default=None)


def judge(run: Run) -> list[Bar]:
    bars = (
        *(_against_baseline, _against_tensorflow, _against_int8, _against_engine),
        *(_alone, _crowded, _ready, _resident, _jpeg),
    )
    return [bar(run) for bar in bars]


def table(bars: Sequence[Bar]) -> str:
    """In Markdown."""
    lines = ["| bar | bound | measured | | from |", "|---|---|---|---|---|"]
    for bar in bars:
        value = "-" if bar.value is None else f"{bar.value:.2f}"
        bound = f"{'at most' if bar.at_most else 'at least'} {bar.bound:g}"
        lines.append(f"| {bar.title} | {bound} | {value} | {bar.verdict} | {bar.numbers} |")
    return "\n".join(lines)


def _times(run: Run, peer: Turn | None, title: str, bound: float) -> Bar:
    ours = run.turn(OURS)
    if ours is None or peer is None or not peer.capacity:
        return Bar(title, None, bound, False, "")
    numbers = f"{ours.capacity:.0f}/s against {peer.capacity:.0f}/s ({peer.name})"
    return Bar(title, ours.capacity / peer.capacity, bound, False, numbers)


def _against_baseline(run: Run) -> Bar:
    title = "images/s at 32 clients, times FastAPI with the SavedModel signature"
    return _times(run, run.turn(BASELINE), title, 5)


def _against_tensorflow(run: Run) -> Bar:
    return _times(run, run.best(TENSORFLOW), "the same, times the best peer on TensorFlow", 4)


def _against_int8(run: Run) -> Bar:
    ours = run.turn(OURS)
    peer = run.best(ours.engine) if ours else None
    return _times(run, peer, "the same, times the best peer on the same int8 engine", 1.3)


def _against_engine(run: Run) -> Bar:
    title = "the same, as a share of the engine alone in turn, without the generator's processor time"
    turn = run.turn(OURS)
    # A probe is 0 where the engine is too slow for a batch within its time.
    rounds = [each for each in turn.rounds if each.raw_per_s] if turn else []
    if not rounds:
        return Bar(title, None, 0.85, False, "")
    shares = [each.share(run.cores) for each in rounds]
    served = statistics.median(each.cell.load.per_s for each in rounds)
    alone = statistics.median(each.raw_per_s for each in rounds)
    generator = statistics.median(each.generator(run.cores) for each in rounds)
    numbers = (
        f"medians of {len(rounds)} rounds: {served:.0f}/s of {alone:.0f}/s; shares of {min(shares):.1%} to "
        f"{max(shares):.1%}; the generator took {generator:.1%} of the cores"
    )
    return Bar(title, statistics.median(shares), 0.85, False, numbers)


def _alone(run: Run) -> Bar:
    title = "p50 at 1 client, share of FastAPI with the SavedModel signature"
    cells = [turn.cell(PICTURE, 1) if turn else None for turn in (run.turn(OURS), run.turn(BASELINE))]
    ours, theirs = (cell.load.latency if cell else None for cell in cells)
    if ours is None or theirs is None:
        return Bar(title, None, 0.25, True, "")
    return Bar(title, ours.p50 / theirs.p50, 0.25, True, f"{ours.p50:.1f} ms against {theirs.p50:.1f} ms")


def _crowded(run: Run) -> Bar:
    title = "p99 under open-loop load at 70 % of capacity, times p50"
    turn = run.turn(OURS)
    found = [cell for cell in turn.cells if abs(cell.rate - SHARE * turn.capacity) < 1] if turn else []
    measured = [(cell, cell.load.latency) for cell in found if cell.load.latency]
    if not measured:
        return Bar(title, None, 5, True, "")
    ratios = {cell.even: latency.p99 / latency.p50 for cell, latency in measured}
    numbers = "; ".join(
        f"{'even' if cell.even else 'random'} arrivals p50 {latency.p50:.1f} ms, p99 {latency.p99:.1f} ms"
        for cell, latency in measured
    )
    return Bar(title, max(ratios.values()), 5, True, numbers)


def _ready(run: Run) -> Bar:
    turn = run.turn(OURS)
    return Bar("seconds from the start to ready", turn.ready_s if turn else None, 2, True, "")


def _resident(run: Run) -> Bar:
    turn = run.turn(OURS)
    megabytes = turn.resident_mib * 2**20 / 1e6 if turn else None
    return Bar("resident memory after all of it, MB", megabytes, 350, True, "")


def _jpeg(run: Run) -> Bar:
    title = "processor time for a 12-megapixel JPEG, share of Pillow's open, convert, resize"
    found = run.large_jpeg
    numbers = (
        f"{found.here_ms:.0f} ms against {found.pillow_ms:.0f} ms; pixels {found.levels:.2f} levels apart"
    )
    if found.levels > MOST_LEVELS:
        return Bar(title, None, 0.2, True, f"the pixels are not the same: {numbers}")
    return Bar(title, found.share, 0.2, True, numbers)
