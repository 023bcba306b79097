"""Whom a disturber chooses, and that whoever it freezes goes on."""

import subprocess
from collections.abc import Iterator

import connections
import disturber
import processes
import pytest
from contenders import CONTENDERS
from disturber import Disturber, frozen, wait_for
from server import Server

SERVER = Server(CONTENDERS[0], port=1)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_frozen_process_stands_still_and_goes_on(child: subprocess.Popen[bytes]) -> None:
    with frozen(child.pid):
        assert processes.state(child.pid) == "T"
    assert wait_for(lambda: processes.state(child.pid) == "S", 10)


def test_a_frozen_process_may_be_killed(child: subprocess.Popen[bytes]) -> None:
    with frozen(child.pid):
        child.kill()
        child.wait()
    assert processes.state(child.pid) == ""


@pytest.mark.parametrize(
    ("taking", "may_load", "may"),
    [
        ({1}, True, {2, 3}),
        ({1}, False, {None}),
        ({1, 2}, True, {1, 2, 3}),
        ({1, 2}, False, {1, 2}),
        (set(), True, {None}),
    ],
)
def test_one_that_takes_connections_is_always_left(
    taking: set[int], may_load: bool, may: set[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disturber, "workers", lambda _: [1, 2, 3])
    monkeypatch.setattr(connections, "takes", lambda worker, _: worker in taking)
    assert {Disturber(SERVER, seed)._victim(may_load=may_load) for seed in range(50)} == may


def test_the_same_seed_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, int]] = []
    monkeypatch.setattr(disturber, "workers", lambda _: [1, 2])
    monkeypatch.setattr(disturber, "lives", lambda _: len(done) % 20 != 19)
    monkeypatch.setattr(disturber, "REST_S", (0.0, 0.0))
    monkeypatch.setattr(connections, "takes", lambda *_: True)
    monkeypatch.setattr(Disturber, "_kill", lambda _, victim: done.append(("kill", victim)))
    monkeypatch.setattr(Disturber, "_stop", lambda _, victim: done.append(("stop", victim)))
    for _ in range(2):
        Disturber(SERVER, seed=7).run(until=float("inf"))
        done.append(("end", 0))
    assert done[:20] == done[20:]
    assert {what for what, _ in done[:19]} == {"kill", "stop"}
