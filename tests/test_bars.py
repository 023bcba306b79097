"""What `make bench` says of its own bars."""

import pytest
from bars import Run, judge, table
from contenders import BASELINE, OURS, TENSORFLOW
from large_jpeg import Comparison
from latency import Latency
from load import Load
from measurement import Cell, Round, Turn

JPEG = Comparison(here_ms=13.0, pillow_ms=100.0, levels=0.1)


def cell(clients: int, per_s: float, p50_ms: float = 10.0, rate: float = 0.0) -> Cell:
    latency = Latency(p50=p50_ms, p90=2 * p50_ms, p99=3 * p50_ms, p999=4 * p50_ms, most=5 * p50_ms)
    load = Load(10.0, round(10 * per_s), 0, latency, generator_cpu_s=1.0)
    return Cell("png32", "multipart", clients, load, cpu_ms=1.0, rate=rate)


def turn(name: str, engine: str, per_s: float, p50_ms: float) -> Turn:
    return Turn(
        name,
        name,
        engine,
        {},
        ready_s=2.1,
        resident_mib=300,
        cells=[cell(1, per_s, p50_ms), cell(32, per_s, p50_ms)],
    )


# Neighbours come and go: the shares are 94.5, 80 and 90 %, with another mean, and another ratio of medians.
ROUNDS = [
    Round(540, cell(32, 494), 560),
    Round(560, cell(32, 304), 240),
    Round(240, cell(32, 256.5), 360),
]


@pytest.fixture
def run() -> Run:
    ours = turn(OURS, "openvino-int8", 500, 2)
    ours.raw_per_s = 700  # around the turn: not what the share is judged from
    ours.rounds = ROUNDS
    ours.cells.append(cell(0, 350, 4, rate=350))
    peers = [
        turn(BASELINE, TENSORFLOW, 90, 11),
        turn("t", TENSORFLOW, 120, 9),
        turn("i", "openvino-int8", 400, 3),
    ]
    return Run([ours, *peers], cores=2, large_jpeg=JPEG)


def test_each_bar_is_judged_against_the_best_peer_of_its_kind(run: Run) -> None:
    judged = judge(run)
    values = [500 / 90, 500 / 120, 500 / 400, 0.9, 2 / 11, 3.0, 2.1, 300 * 2**20 / 1e6, 0.13]
    assert [bar.value for bar in judged] == pytest.approx(values)
    verdicts = ["holds", "holds", "misses", "holds", "holds", "holds", "misses", "holds", "holds"]
    assert [bar.verdict for bar in judged] == verdicts
    assert "500/s against 400/s (i)" in table(judged)


def test_the_share_of_the_engine_says_what_it_was_judged_from(run: Run) -> None:
    shown = table(judge(run))
    assert "3 rounds: 304/s of 400/s; shares of 80.0% to 94.5%; the generator took 5.0% of the cores" in shown


def test_without_rounds_or_an_engine_that_answers_there_is_no_share(run: Run) -> None:
    for rounds in ([], [Round(0, cell(32, 10), 0)]):
        run.turns[0].rounds = rounds
        bar = judge(run)[3]
        assert "engine alone" in bar.title
        assert bar.value is None


def test_a_bar_whose_peers_did_not_run_is_not_called_held() -> None:
    judged = judge(Run([], 2, JPEG))
    assert {bar.verdict for bar in judged[:-1]} == {"not measured"}
    assert judged[-1].verdict == "holds"


def test_a_cheap_decode_with_other_pixels_does_not_hold() -> None:
    wrong = Comparison(here_ms=1.0, pillow_ms=100.0, levels=1.5)
    assert judge(Run([], 2, wrong))[-1].holds is None
