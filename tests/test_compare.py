"""`make bench` around its measurements: which servers, which turn counts, which environments."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import compare
import pytest
from contenders import CONTENDERS, PEERS
from environments import MARK, InstallationError, prepare
from latency import Latency
from load import Load
from measurement import FULL, QUICK, Cell, Round, Turn, in_turn


def turn(name: str, per_s: int) -> Turn:
    load = Load(1.0, per_s, 0, Latency(1, 1, 1, 1, 1), 0.0)
    return Turn(name, name, "tensorflow", {}, cells=[Cell("png32", "multipart", 32, load, 1.0)])


def test_of_several_turns_the_median_one_counts() -> None:
    turns = [turn(name, per_s) for per_s in (30, 10, 20) for name in ("a", "b")]
    assert [(each.name, each.capacity) for each in compare.median_turns(turns)] == [("a", 20), ("b", 20)]


def test_each_round_lies_between_two_probes_and_shares_them_with_its_neighbours() -> None:
    probes: Iterator[float] = iter([100.0, 200.0, 300.0])
    cells = iter(turn("a", per_s).cells[0] for per_s in (10, 20))
    order: list[str] = []

    def probe() -> float:
        order.append("engine")
        return next(probes)

    def serve() -> Cell:
        order.append("service")
        return next(cells)

    first, second = in_turn(2, probe, serve)
    assert order == ["engine", "service", "engine", "service", "engine"]
    assert (first.before_per_s, first.cell.load.per_s, first.after_per_s) == (100, 10, 200)
    assert (second.before_per_s, second.cell.load.per_s, second.after_per_s) == (200, 20, 300)


def test_what_the_generator_takes_is_not_asked_of_the_service() -> None:
    load = Load(10.0, 400, 0, None, generator_cpu_s=4.0)
    each = Round(90.0, Cell("png32", "multipart", 32, load, 1.0), 110.0)
    assert each.generator(cores=2) == pytest.approx(0.2)
    assert each.share(cores=2) == pytest.approx(40 / (100 * 0.8))


def test_rounds_are_written_down_with_everything_in_them() -> None:
    ours = turn("ours", 30)
    ours.rounds.append(Round(40.0, ours.cells[0], 50.0))
    (written,) = json.loads(json.dumps(ours.document()))["rounds"]
    assert (written["before_per_s"], written["after_per_s"]) == (40, 50)
    assert written["cell"]["load"]["answered"] == 30


def test_quick_measures_what_the_bars_are_judged_by_and_no_more() -> None:
    assert (QUICK.rounds, FULL.rounds) == (3, 7)
    assert QUICK.clients == {"png32": (1, 32)}
    assert QUICK.shares == (0.7,)


def test_everybody_is_compared_unless_some_are_named() -> None:
    assert compare.chosen(None) == CONTENDERS
    assert [each.name for each in compare.chosen("litserve,ours")] == ["litserve", "ours"]


def test_a_server_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(SystemExit, match=r"no server 'triton'.*litserve-int8"):
        compare.chosen("ours,triton")


def test_an_environment_is_kept_until_its_lock_changes(tmp_path: Path) -> None:
    lock = (PEERS / "fastapi" / "requirements.txt").read_bytes()
    (tmp_path / "fastapi").mkdir()
    (tmp_path / "fastapi" / MARK).write_text(hashlib.sha256(lock).hexdigest())
    prepare("fastapi", tmp_path)
    assert [path.name for path in (tmp_path / "fastapi").iterdir()] == [MARK]


def test_an_environment_that_cannot_be_made_says_which_command_failed(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(InstallationError, match=r"-m venv --clear failed: .*file"):
        prepare("fastapi", occupied)
