"""What is read from wrk."""

import pytest
from closed_loop import parse
from latency import Latency

PRINTED = """Running 3s test @ http://127.0.0.1:8000/predict
  1 threads and 32 connections
Requests/sec:    349.67
RESULT {"requests": 1051, "duration": 3005000, "status": 7, "connect": 1, "read": 2, "write": 0, \
"timeout": 3, "p50": 90100, "p90": 95000, "p99": 120500, "p999": 130000, "most": 131000}
"""


def test_answers_failures_and_times_are_read_from_what_wrk_prints() -> None:
    load = parse(PRINTED, generator_cpu_s=0.2)
    assert (load.answered, load.failed, load.generator_cpu_s) == (1044, 13, 0.2)
    assert load.per_s == pytest.approx(1044 / 3.005)
    assert load.latency == Latency(p50=90.1, p90=95.0, p99=120.5, p999=130.0, most=131.0)


def test_a_server_that_never_answers_has_no_latency() -> None:
    silent = PRINTED.replace('"requests": 1051', '"requests": 0').replace('"status": 7', '"status": 0')
    load = parse(silent, generator_cpu_s=0.0)
    assert (load.answered, load.latency) == (0, None)


def test_output_without_a_result_is_an_error_that_shows_it() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:8000", generator_cpu_s=0.0)
