"""The page that a run becomes: nothing that was measured, lost or left out is missing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bars import Run, judge
from contenders import OURS, TENSORFLOW
from large_jpeg import Comparison
from latency import Latency
from load import Load
from measurement import Cell, Round, Turn
from report import draw, losses, page, panels

INT8 = "openvino-int8"
DOCUMENT: dict[str, Any] = {
    "date": "2026-11-24 12:00 UTC",
    "command": "python benchmarks/compare.py",
    "engine": "openvino int8, 8 at a time",
    "raw_per_s": [540.0, 550.0],
    "machine": {
        "cores": 2,
        "load_cores": 0,
        "processor": "A processor",
        "instructions": ["avx2"],
        "load_average": 0.1,
    },
}


def turn(name: str, engine: str, per_s: int, p99_ms: float, resident_mib: float) -> Turn:
    load = Load(10.0, 10 * per_s, 3, Latency(1.0, 2.0, p99_ms, 9.0, 9.0), generator_cpu_s=1.0)
    cells = [Cell("png32", "multipart", 32, load, cpu_ms=4.5), Cell("png32", "multipart", 0, load, 4.5, 70.0)]
    return Turn(name, name.title(), engine, {"PEER_BATCH": "8"}, resident_mib=resident_mib, cells=cells)


@pytest.fixture
def run() -> Run:
    missing = Turn("absent", "Absent", TENSORFLOW, {}, reason="pip install failed: no such version")
    ours, slower = turn(OURS, INT8, 500, 6, 300), turn("slower", INT8, 400, 7, 310)
    return Run([ours, slower, missing], 2, Comparison(13, 100, 0.1))


def test_the_page_has_every_server_its_settings_and_why_one_is_missing(run: Run) -> None:
    text = page(DOCUMENT, run, judge(run), "plot.png")
    assert "| Slower | openvino-int8 | multipart | 32 | 400.0 | 1.0 | 2.0 | 7.0 | 9.0 | 3 | 4.50 |" in text
    assert "| Slower | openvino-int8 | 70/s | random | 400.0 |" in text
    assert "| Absent | tensorflow | pip install failed: no such version |" in text
    assert "`PEER_BATCH=8`" in text
    assert "540 to 550 images/s" in text


def test_the_rounds_that_the_share_was_judged_from_are_shown(run: Run) -> None:
    assert "in turn\n" not in page(DOCUMENT, run, judge(run), "plot.png")
    ours = run.turns[0]
    ours.rounds = [Round(520, ours.cells[0], 600), Round(600, ours.cells[0], 0), Round(0, ours.cells[0], 0)]
    text = page(DOCUMENT, run, judge(run), "plot.png")
    assert "| 1 | 520 | 500 | 600 | 5.0% | 94.0% |" in text
    assert "| 3 | 0 | 500 | 0 | 5.0% | - |" in text


def test_where_a_peer_is_better_is_told(run: Run) -> None:
    assert losses(run) == "Nowhere in this run."
    text = losses(Run([*run.turns, turn("faster", INT8, 600, 3, 100)], 2, run.large_jpeg))
    assert "600 images/s, 500 here" in text
    assert "p99 3.0 ms, 6.0 here" in text
    assert "100 MiB, 300 here" in text
    assert "Slower" not in text


def test_where_a_peer_answers_all_and_this_service_does_not_is_told(run: Run) -> None:
    patient = turn("patient", INT8, 40, 6, 300)
    patient.cells = [replace(each, load=replace(each.load, failed=0)) for each in patient.cells]
    text = losses(Run([*run.turns, patient], 2, run.large_jpeg))
    assert "- Patient (openvino-int8), png32, multipart, 32 clients: all 400 requests answered" in text
    assert "3 of 5003 were not here" in text


def test_what_one_server_alone_was_measured_at_is_no_comparison(run: Run, tmp_path: Path) -> None:
    load = run.turns[0].cells[0].load
    run.turns[0].cells.append(Cell("jpeg500", "multipart", 32, load, cpu_ms=4.5))
    compared = panels(run.turns)
    assert {title.split(" (")[0] for title in compared} == {
        "32x32 PNG, 32 clients: images/s",
        "32x32 PNG, 32 clients: processor time per image, ms",
        "Resident memory, MiB",
    }
    assert {tuple(turn.name for turn, _ in values) for values in compared.values()} == {(OURS, "slower")}
    draw(run, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
