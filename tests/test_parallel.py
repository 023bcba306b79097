"""Calls at the same time: in their order, as many at once as there are threads, none left running."""

import subprocess
import sys
import threading
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import parallel


def outcome(program: str) -> tuple[int, bytes]:
    """Exit code and output of a process of its own."""
    ended = subprocess.run([sys.executable, "-c", program], timeout=30, capture_output=True, check=False)
    return ended.returncode, ended.stdout


@given(st.lists(st.integers(), max_size=20), st.integers(min_value=1, max_value=5))
def test_every_call_is_made_once_and_answers_in_its_place(values: list[int], threads: int) -> None:
    made: list[int] = []

    def call(value: int) -> int:
        made.append(value)
        return value * 2

    assert parallel.run([partial(call, value) for value in values], threads) == [
        value * 2 for value in values
    ]
    assert sorted(made) == sorted(values)


def test_as_many_run_at_once_as_there_are_threads() -> None:
    both_run = threading.Barrier(2, timeout=10)
    assert parallel.run([both_run.wait, both_run.wait], 2).count(0) == 1


def test_one_thread_is_the_calling_one() -> None:
    assert parallel.run([threading.get_ident] * 3, 1) == [threading.get_ident()] * 3


def test_a_failure_is_told_when_all_the_others_have_ended() -> None:
    has_failed, ended = threading.Event(), threading.Event()

    def fail() -> None:
        has_failed.set()
        raise ValueError("the first")

    def end_later() -> None:
        has_failed.wait(10)
        ended.wait(0.05)
        ended.set()

    with pytest.raises(ValueError, match="the first"):
        parallel.run([fail, end_later], 2)
    assert ended.is_set()


def test_what_is_done_apart_is_done_by_another_thread_that_is_gone_then() -> None:
    thread = parallel.apart(threading.current_thread)
    assert thread is not threading.current_thread()
    thread.join(10)
    assert not thread.is_alive()


def test_what_fails_apart_fails_for_who_asked() -> None:
    with pytest.raises(ZeroDivisionError):
        parallel.apart(lambda: 1 // 0)


def test_where_there_are_no_more_threads_the_calling_one_does_all() -> None:
    program = (
        "import resource, threading; from app import parallel;"
        "threading.stack_size(1 << 30);"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29));"
        "print(parallel.run([threading.get_ident] * 3, 3) == [threading.get_ident()] * 3)"
    )
    assert outcome(program) == (0, b"True\n")


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    program = (
        "import threading; from functools import partial; from app import parallel;"
        "hang = threading.Event().wait;"
        "threading.Thread(target=parallel.run, args=([hang, hang], 2), daemon=True).start();"
        "print(threading.active_count() > 1)"
    )
    assert outcome(program) == (0, b"True\n")
