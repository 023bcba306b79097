"""What a run with kills is judged by: each bar is missed by itself, and what a kill must cost misses none."""

from dataclasses import replace

import pytest
from caller import Answer, Try
from chaos import Counters, Footprint, Run
from disturber import Kill

CAT = Answer(200, "cat", {"cat": 0.9, "dog": 0.1})
RIGHT = Try(opened=0, began=1, ended=2, port=50_001, answer=CAT, is_right=True)
ON_ITS_WAY = Try(opened=0, began=9.9, ended=10.02, port=50_002, answer=None, is_right=False)
FOUND_CLOSED = Try(opened=0, began=12, ended=12.01, port=50_003, answer=None, is_right=False)
KILL = Kill(frozen=10, killed=10.01, clients=frozenset({50_002, 50_003}))
SMALL = Footprint(processes=4, files=80, resident_mib=400)
GOOD = Run(
    kills=[KILL],
    stops=1,
    tries=[RIGHT, ON_ITS_WAY, FOUND_CLOSED, RIGHT, RIGHT],
    unanswered=0,
    probes=[0.01, 1.0, 1.0],
    fallen=set(),
    before=SMALL,
    after=replace(SMALL, resident_mib=440),
    code=0,
)


def test_what_was_on_its_way_in_a_killed_worker_may_be_lost() -> None:
    assert GOOD.misses() == []
    assert GOOD.lost == [ON_ITS_WAY]
    assert GOOD.broken == [ON_ITS_WAY, FOUND_CLOSED]


@pytest.mark.parametrize(
    "changed",
    [
        {"port": 50_001},  # that worker did not hold it
        {"ended": 9.95},  # it broke before
        {"opened": 11.0, "began": 11.0, "ended": 11.1},  # it is another connection with the same number
    ],
)
def test_a_connection_that_no_killed_worker_held_may_not_break(changed: dict[str, float]) -> None:
    tries = [RIGHT, replace(ON_ITS_WAY, **changed)]  # type: ignore[arg-type]  # of one field
    assert replace(GOOD, tries=tries).misses() == ["1 connections broken that no killed worker held"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"code": 1}, "exit code 1"),
        ({"code": None}, "exit code None"),
        ({"tries": [RIGHT, replace(RIGHT, is_right=False)]}, "1 wrong answers"),
        ({"unanswered": 2}, "2 requests without an answer at the end of 3 tries"),
        ({"probes": [1.0, 1.0, 1.0]}, "3 probes failed"),
        ({"fallen": {"b", "a"}}, "counters that fell: a, b"),
        ({"after": replace(SMALL, processes=5)}, "5 processes after 4"),
        ({"after": replace(SMALL, files=81)}, "81 open files after 80"),
        ({"after": replace(SMALL, resident_mib=441)}, "441 MiB after 400"),
    ],
)
def test_each_bar_is_missed_by_itself(changed: dict[str, object], said: str) -> None:
    assert replace(GOOD, **changed).misses() == [said]  # type: ignore[arg-type]  # of one field


def test_what_is_told_counts_what_was_lost() -> None:
    told = "\n".join(GOOD.told())
    assert "of 2 connections that killed workers held, 1 cost a request on its way, 1 were found" in told
    assert "3 probes, 2 failed" in told


def metrics(requests: float, *, has_more: bool = True) -> bytes:
    lines = [
        "# TYPE classifier_requests_total counter",
        f'classifier_requests_total{{route="/predict",status="200"}} {requests}',
        "# TYPE classifier_requests_in_flight gauge",
        f"classifier_requests_in_flight {-requests}",
        "# TYPE classifier_stage_seconds histogram",
        'classifier_stage_seconds_bucket{le="+Inf"} 3',
    ]
    return "\n".join(lines if has_more else lines[:-1]).encode() + b"\n"


def test_counters_may_rise_and_neither_fall_nor_vanish() -> None:
    counters = Counters()
    for requests in (1, 1, 5):
        counters.see("/metrics", metrics(requests))
    counters.see("/readyz", b"{}")
    assert counters.fallen == set()
    counters.see("/metrics", metrics(4))
    assert counters.fallen == {"classifier_requests_total route=/predict status=200"}
    counters.see("/metrics", metrics(6, has_more=False))
    assert "classifier_stage_seconds_bucket le=+Inf" in counters.fallen


@pytest.mark.parametrize(
    ("other", "agrees"),
    [
        (CAT, True),
        (replace(CAT, probabilities={"cat": 0.895, "dog": 0.105}), True),
        (replace(CAT, probabilities={"cat": 0.88, "dog": 0.12}), False),
        (replace(CAT, probabilities={"cat": 0.9}), False),
        (replace(CAT, label="dog"), False),
        (Answer(503, "", {}), False),
    ],
)
def test_an_answer_is_compared_with_class_and_probabilities(other: Answer, agrees: bool) -> None:
    assert CAT.agrees(other) is agrees
