"""What `make bench` says of its own bars."""

import pytest
from bars import Run, judge, table
from contenders import BASELINE, INT8, OURS, TENSORFLOW
from large_jpeg import Comparison
from latency import Latency
from load import Load
from measurement import Cell, Turn

JPEG = Comparison(here_ms=13.0, pillow_ms=100.0, levels=0.1)


def cell(clients: int, per_s: float, p50_ms: float = 10.0, rate: float = 0.0) -> Cell:
    latency = Latency(p50=p50_ms, p90=2 * p50_ms, p99=3 * p50_ms, p999=4 * p50_ms, most=5 * p50_ms)
    load = Load(10.0, round(10 * per_s), 0, latency, generator_cpu_s=1.0)
    return Cell("png32", "multipart", clients, load, cpu_ms=1.0, rate=rate)


def turn(name: str, engine: str, per_s: float, p50_ms: float) -> Turn:
    return Turn(
        name, name, engine, {}, resident_mib=300, cells=[cell(1, per_s, p50_ms), cell(32, per_s, p50_ms)]
    )


@pytest.fixture
def run() -> Run:
    ours = turn(OURS, "openvino-int8", 500, 2)
    ours.raw_per_s = 550
    ours.cells.append(cell(0, 350, 4, rate=350))
    peers = [turn(BASELINE, TENSORFLOW, 90, 11), turn("t", TENSORFLOW, 120, 9), turn("i", INT8, 400, 3)]
    return Run([ours, *peers], cores=2, large_jpeg=JPEG)


def test_each_bar_is_judged_against_the_best_peer_of_its_kind(run: Run) -> None:
    judged = judge(run)
    values = [500 / 90, 500 / 120, 500 / 400, 500 / (550 * 0.95), 2 / 11, 3.0, 0.13]
    assert [bar.value for bar in judged] == pytest.approx(values)
    verdicts = ["holds", "holds", "misses", "holds", "holds", "holds", "holds"]
    assert [bar.verdict for bar in judged] == verdicts
    assert "500/s against 400/s (i)" in table(judged)


def test_a_bar_whose_peers_did_not_run_is_not_called_held() -> None:
    judged = judge(Run([], 2, JPEG))
    assert {bar.verdict for bar in judged[:-1]} == {"not measured"}
    assert judged[-1].verdict == "holds"


def test_a_cheap_decode_with_other_pixels_does_not_hold() -> None:
    wrong = Comparison(here_ms=1.0, pillow_ms=100.0, levels=1.5)
    assert judge(Run([], 2, wrong))[-1].holds is None
