"""Several workers behind one socket: none of them is needed, and together they are one service."""

import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest
import works
from conftest import Encode, free_port
from fakes import MODEL
from mounts import within_mount
from prometheus_client.parser import text_string_to_metric_families
from test_service import Service, fails_to_start, listens, running, started

from app import shared_metrics, supervisor
from app.errors import CANNOT_GO_ON
from app.repository import Version
from app.settings import Settings
from app.supervisor import Supervisor, Work

pytestmark = pytest.mark.timeout(120)

STARTS = re.compile(r"Worker (\d) of \d starts as process (\d+)")


# The service as a user starts it


@pytest.fixture(scope="module")
def service(openvino_model: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    root = openvino_model.path.parent.parent
    log = tmp_path_factory.mktemp("workers") / "log"
    settings = {"model_root": root, "model_name": MODEL, "engine": "openvino-float32", "drain_s": 0}
    with running(log, "app", "--workers", "2", **settings) as service:
        service.wait_until_ready()
        yield service


def workers(service: Service) -> list[int]:
    """The processes that were started, by place; the latest in each."""
    return [process for _, process in sorted(dict(STARTS.findall(service.log.read_text())).items())]


def figures_of(worker: int) -> Path:
    """The folder in which a process keeps what it counts."""
    variables = dict(
        line.split("=", 1) for line in Path(f"/proc/{worker}/environ").read_text().split("\0")[:-1]
    )
    return Path(variables[shared_metrics._FOLDER])


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def figures(service: Service) -> dict[str, float]:
    """By a new connection, so that whichever worker is free answers."""
    text = httpx.get(service.client.base_url.join("/metrics"), verify=False).text
    return {
        sample.name + "".join(f" {value}" for value in sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_together_they_are_one_service_of_which_any_part_may_die(service: Service, encode: Encode) -> None:
    def classify() -> int:
        files = {"file": encode("red")}
        return httpx.post(service.client.base_url.join("/predict"), files=files, verify=False).status_code

    until(lambda: service.log.read_text().count("Application startup complete") == 2)
    first, second = map(int, workers(service))
    assert set(re.findall(r"version 1 is live\. pid=(\d+)", service.log.read_text())) == {*workers(service)}
    assert [classify() for _ in range(10)] == 10 * [200]

    for victim in (first, second):
        before = service.log.read_text().count("Application startup complete")
        os.kill(victim, signal.SIGKILL)
        # Others take what comes from now on, and the successor listens only once it can answer.
        assert [classify() for _ in range(5)] == 5 * [200]
        until(lambda: service.log.read_text().count("Application startup complete") > before)  # noqa: B023
    assert not {first, second} & set(map(int, workers(service)))
    assert [classify() for _ in range(10)] == 10 * [200]

    # What the dead counted still counts.
    found = figures(service)
    assert found["classifier_requests_total /predict 200 POST"] == 30
    assert found[f"classifier_confidence_ratio_count 1 {MODEL}"] == 30
    assert found["classifier_requests_in_flight"] == found["classifier_pictures_waiting queue"] == 0
    assert found["process_resident_memory_bytes"] > 0
    assert found["classifier_ready"] == 1


def test_one_that_is_told_to_stop_is_replaced_without_a_lost_request(
    service: Service, encode: Encode
) -> None:
    url, files, leave = service.client.base_url.join("/predict"), {"file": encode("red")}, threading.Event()

    def ask() -> set[int]:
        """A connection for each request: whichever worker is free takes it."""
        statuses = set()
        while not leave.wait(0.05):  # which leaves the cores something for those who start
            statuses.add(httpx.post(url, files=files, verify=False).status_code)
        return statuses

    with ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(ask) for _ in range(4)]
        try:
            until(lambda: service.log.read_text().count("Application startup complete") >= 2)
            for victim in map(int, workers(service)):
                before = service.log.read_text().count("Application startup complete")
                os.kill(victim, signal.SIGTERM)
                until(lambda: service.log.read_text().count("Application startup complete") > before)  # noqa: B023
        finally:
            leave.set()
        assert [each.result() for each in asking] == 4 * [{200}]


def test_one_that_is_killed_costs_no_more_than_what_it_held(service: Service, encode: Encode) -> None:
    url, files, leave = service.client.base_url.join("/predict"), {"file": encode("red")}, threading.Event()

    def ask() -> list[int]:
        """The statuses; 0 where the connection broke."""
        statuses = []
        while not leave.wait(0.05):
            try:
                statuses.append(httpx.post(url, files=files, verify=False).status_code)
            except httpx.TransportError:
                statuses.append(0)
        return statuses

    callers, kills = 4, 2
    with ThreadPoolExecutor(callers) as clients:
        asking = [clients.submit(ask) for _ in range(callers)]
        try:
            for turn in range(kills):
                before = service.log.read_text().count("Application startup complete")
                os.kill(int(workers(service)[turn]), signal.SIGKILL)
                until(lambda: service.log.read_text().count("Application startup complete") > before)  # noqa: B023
        finally:
            leave.set()
        statuses = [status for each in asking for status in each.result()]
    assert set(statuses) <= {200, 0}
    assert statuses.count(0) <= callers * kills
    assert statuses.count(200) > len(statuses) / 2


def test_workers_whose_supervisor_is_killed_leave_nobody_behind(
    openvino_model: Version, tmp_path: Path
) -> None:
    settings = {"model_root": openvino_model.path.parent.parent, "model_name": MODEL, "drain_s": 0}
    with running(tmp_path / "log", "app", "--workers", "2", **settings) as service:
        service.wait_until_ready()
        processes = workers(service)
        folder = figures_of(processes[0])
        service.process.kill()
        until(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))
        assert not listens(service.address)
    assert folder.exists()  # there was nobody to remove it
    with running(tmp_path / "log", "app", "--workers", "2", **settings) as service:
        service.wait_until_ready()
        assert not folder.exists()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=60) == 0


# Stops the service that the tests before need.
def test_sigterm_ends_all_of_it_with_0(service: Service) -> None:
    processes = workers(service)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(timeout=60) == 0
    assert not any(Path(f"/proc/{process}").exists() for process in processes)
    assert "Traceback" not in service.log.read_text()


def test_a_full_shared_memory_moves_the_figures_to_the_disk(
    openvino_model: Version, tmp_path: Path, encode: Encode
) -> None:
    """As in a container in which others fill its 64 MiB; nothing else of it is needed, either."""
    settings = {"model_root": openvino_model.path.parent.parent, "model_name": MODEL, "drain_s": 0}
    memory = shared_metrics._MEMORY
    full = within_mount(memory, 64, f"head -c 64k /dev/zero > {memory}/full")
    command = [*full, sys.executable, "-m", "app", "--workers", "2"]
    with started(command, tmp_path / "log", settings) as service:
        service.wait_until_ready()
        answer = httpx.post(
            service.client.base_url.join("/predict"), files={"file": encode("red")}, verify=False
        )
        assert answer.status_code == 200
        assert figures(service)["classifier_requests_total /predict 200 POST"] == 1
        assert not figures_of(workers(service)[0]).is_relative_to(memory)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=60) == 0
    assert f"find no room in {memory} (No space left on device; 0 KiB are free)" in service.log.read_text()


def test_a_missing_model_ends_all_of_it_with_one_sentence(tmp_path: Path) -> None:
    port = str(free_port())
    said = fails_to_start("app", "--workers", "2", "--port", port, model_root=tmp_path)
    assert "No version of the model" in said
    assert "Worker 1 ended with exit code 2 before it was ready; giving up." in said


# The supervisor alone, with workers that do as they are told


@pytest.fixture
def supervise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Work], Supervisor]]:
    monkeypatch.setenv(shared_metrics._FOLDER, str(tmp_path))
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    made: list[Supervisor] = []

    def supervisor_of(work: Work) -> Supervisor:
        made.append(Supervisor(Settings(workers=1, drain_s=0, shutdown_timeout_s=1), listener, work))
        return made[-1]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield supervisor_of
    for process in (process for each in made for process in each._running()):
        process.kill()
    for number, handler in kept.items():
        signal.signal(number, handler)


def tend(supervised: Supervisor, condition: Callable[[], object]) -> None:
    """What `run` does until a condition holds; one thread, so that none looks at a process twice."""

    def tended() -> object:
        supervised._tend()
        return condition()

    until(tended)


def process_of(supervised: Supervisor, worker: supervisor._Worker) -> int | None:
    """That of a worker, once it answers."""
    tend(supervised, lambda: worker.answers)
    assert worker.process is not None
    return worker.process.pid


def terminate(supervised: Supervisor) -> int:
    """As on SIGTERM; the exit code."""
    supervised._receive(signal.SIGTERM, None)
    tend(supervised, lambda: not supervised._running())
    return supervised._code


def test_it_gives_up_on_a_worker_that_dies_at_start(
    supervise: Callable[[Work], Supervisor], caplog: pytest.LogCaptureFixture
) -> None:
    assert supervise(works.die_at_start).run() == CANNOT_GO_ON
    assert "Worker 1 was ended by SIGKILL before it was ready; giving up." in caplog.text


def test_one_that_somebody_tells_to_stop_before_it_is_ready_is_replaced(
    supervise: Callable[[Work], Supervisor], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    supervised = supervise(works.end_as_told)
    (worker,) = supervised._workers
    tend(supervised, lambda: worker.answers)
    assert caplog.text.count("Worker 1 was ended by SIGTERM; a new one starts in 0.0 s.") == 1
    assert terminate(supervised) == 0


def test_it_pauses_longer_and_longer_between_short_lives(
    supervise: Callable[[Work], Supervisor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.1)
    supervised = supervise(works.answer)
    (worker,) = supervised._workers
    for _ in range(3):
        tend(supervised, lambda: worker.answers)
        assert worker.process is not None
        worker.process.kill()
        worker.process.join()
    tend(supervised, lambda: worker.answers)
    assert terminate(supervised) == 0
    assert re.findall(r"starts in (\S+) s", caplog.text) == ["0.0", "0.1", "0.2"]


def test_one_whose_event_loop_is_stuck_is_replaced(
    supervise: Callable[[Work], Supervisor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The others answer the probes, so nobody else would notice."""
    monkeypatch.setattr(supervisor, "STUCK_S", 1.0)
    supervised = supervise(works.hear_nothing)
    (worker,) = supervised._workers
    stuck = process_of(supervised, worker)
    tend(supervised, lambda: worker.process is not None and worker.process.pid != stuck)
    assert caplog.text.count("Worker 1 has answered nothing for 1 s and is killed.") == 1


def test_one_that_turns_is_left_alone(
    supervise: Callable[[Work], Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is looked at: that a process has ended is seen by one look after the other."""
    monkeypatch.setattr(supervisor, "STUCK_S", 2.0)
    supervised = supervise(works.answer)
    (worker,) = supervised._workers
    first, ends_at = process_of(supervised, worker), time.monotonic() + 3
    while time.monotonic() < ends_at:
        supervised._tend()
    assert process_of(supervised, worker) == first
    assert terminate(supervised) == 0


def test_one_that_does_not_stop_in_time_is_killed_and_that_is_told(
    supervise: Callable[[Work], Supervisor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(supervisor, "STOP_GRACE_S", 0.2)
    supervised = supervise(works.hear_nothing)
    tend(supervised, lambda: supervised._workers[0].answers)
    assert terminate(supervised) == CANNOT_GO_ON
    assert "did not stop in time and is killed" in caplog.text


def test_the_cores_are_shared_out_unless_the_settings_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "available_cores", lambda: 8)
    shares = [supervisor._with_its_share(Settings(workers=3, decode_threads=5), place) for place in (1, 2, 3)]
    assert [(share.engine_threads, share.decode_threads) for share in shares] == [(3, 5), (3, 5), (2, 5)]
    assert supervisor._with_its_share(Settings(workers=16), 16).engine_threads == 1
