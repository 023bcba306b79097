"""How a service ends: in time, whatever hangs, and with an answer for everybody who waits for one."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Encode, free_port
from fakes import MODEL, publish_fake
from hanging_service import HANGS
from test_service import environment, listens

from app.repository import Repository

pytestmark = pytest.mark.timeout(120)

SCRIPT = Path(__file__).with_name("hanging_service.py")
OCTETS = {"Content-Type": "application/octet-stream"}
SLACK_S = 12  # the machine may be busy


class Answer(NamedTuple):
    status: int
    media_type: str
    content: dict[str, Any]


class Service:
    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.process = process
        self.log = log

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        with closing(http.client.HTTPConnection(self.address, timeout=60)) as connection:
            connection.request(method, path, body, OCTETS)
            return read(connection)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("GET", "/readyz").status == 200
        except OSError:
            return False

    def wait_until(self, is_ready: bool) -> None:
        while self.is_ready() != is_ready:
            time.sleep(0.05)

    def ends_within(self, seconds: float) -> int:
        """The exit code."""
        return self.process.wait(timeout=seconds + SLACK_S)


def read(connection: http.client.HTTPConnection) -> Answer:
    answer = connection.getresponse()
    return Answer(answer.status, answer.getheader("content-type", ""), json.loads(answer.read()))


@contextmanager
def running(folder: Path, *arguments: str, **settings: object) -> Iterator[Service]:
    repository = Repository(folder / "models")
    publish_fake(repository)
    port, log = free_port(), folder / "log"
    given = {"model_root": repository.root, "model_name": MODEL, "port": port, "drain_s": 0} | settings
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, *arguments], stdout=stream, stderr=stream, env=environment(**given)
        )
    try:
        yield Service(port, process, log)
    finally:
        process.kill()
        process.wait()


def hanging(encode: Encode) -> bytes:
    return encode(f"rgb({HANGS}, {HANGS}, {HANGS})")


def begin_upload(service: Service) -> http.client.HTTPConnection:
    """Whose body never ends."""
    connection = http.client.HTTPConnection(service.address, timeout=60)
    connection.putrequest("POST", "/predict")
    for name, value in (OCTETS | {"Content-Length": "5000"}).items():
        connection.putheader(name, value)
    connection.endheaders(b"half a body")
    return connection


def test_what_is_not_done_when_the_time_to_stop_is_over_is_told_so(tmp_path: Path, encode: Encode) -> None:
    with running(tmp_path, shutdown_timeout_s=1) as service, ThreadPoolExecutor(1) as client:
        service.wait_until(is_ready=True)
        waiting = client.submit(service.ask, "POST", "/predict", hanging(encode))
        with closing(begin_upload(service)) as upload:
            time.sleep(0.5)
            service.process.send_signal(signal.SIGTERM)
            for answer in (read(upload), waiting.result()):
                assert (answer.status, answer.media_type) == (503, "application/problem+json")
                assert answer.content["code"] == "not_ready"
                assert "shut down before this request was done" in answer.content["detail"]
        assert service.ends_within(7) == 0
        assert "Traceback" not in service.log.read_text()


def test_a_process_whose_engine_hangs_says_so_ends_soon_and_takes_nothing_more(
    tmp_path: Path, encode: Encode
) -> None:
    with running(tmp_path, engine_stall_s=4) as service, ThreadPoolExecutor(1) as client:
        service.wait_until(is_ready=True)
        waiting = client.submit(service.ask, "POST", "/predict", hanging(encode))
        service.wait_until(is_ready=False)
        assert "seems to hang" in service.ask("GET", "/readyz").content["detail"]
        answer = waiting.result()
        gone = time.monotonic()
        assert (answer.status, answer.content["code"]) == (500, "engine_failed")
        assert service.ends_within(2) == 1
        assert time.monotonic() - gone < 5  # it waits for no thread that hangs
        assert "CLASSIFIER_ENGINE_STALL_S" in service.log.read_text()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_skips_the_wait(tmp_path: Path, second: signal.Signals) -> None:
    with running(tmp_path, drain_s=600) as service:
        service.wait_until(is_ready=True)
        service.process.send_signal(signal.SIGTERM)
        service.wait_until(is_ready=False)
        while "INFO Asked to stop by SIGTERM; goes on answering for 600 s.\n" not in service.log.read_text():
            time.sleep(0.05)
        service.process.send_signal(second)
        assert service.ends_within(2) == 0
        assert service.log.read_text().count("Asked to stop") == 1


def test_ctrl_c_is_told_as_what_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, drain_s=600) as service:
        service.wait_until(is_ready=True)
        service.process.send_signal(signal.SIGINT)
        assert service.ends_within(2) == 0
        assert "INFO Asked to stop by SIGINT; goes on answering for 0 s.\n" in service.log.read_text()


def test_a_stop_while_a_version_is_loaded_is_in_order(tmp_path: Path) -> None:
    with running(tmp_path, "3") as service:
        while not listens(service.address):
            time.sleep(0.05)
        assert service.ask("GET", "/readyz").status == 503
        service.process.send_signal(signal.SIGTERM)
        assert service.ends_within(5) == 0
        assert "Traceback" not in service.log.read_text()


def test_there_is_always_a_connection_for_probes(tmp_path: Path, encode: Encode) -> None:
    """However many are open that ask nothing; who asked lately keeps theirs."""
    with running(tmp_path, max_connections=20) as service:
        service.wait_until(is_ready=True)
        silent = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(20)]
        time.sleep(0.2)
        with closing(http.client.HTTPConnection(service.address, timeout=20)) as busy:
            for _ in range(60):
                silent.append(socket.create_connection(("127.0.0.1", service.port), timeout=20))
                busy.request("POST", "/predict", encode("red"), OCTETS)
                assert read(busy).content["label"] == "red"
                assert service.ask("GET", "/livez").status == 200
            assert busy.sock is not None
        closed = [each for each in silent if is_closed(each)]
        assert len(closed) >= 60
        assert closed == silent[: len(closed)]  # those that were silent for longest
        for each in silent:
            each.close()


def test_what_the_server_refuses_by_itself_is_counted_and_logged(tmp_path: Path) -> None:
    with running(tmp_path, log_format="json") as service:
        service.wait_until(is_ready=True)
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as client:
            client.sendall(b"no HTTP\r\n\r\n")
            answer = client.makefile("rb").read()
        with closing(http.client.HTTPConnection(service.address, timeout=20)) as connection:
            connection.request("GET", "/metrics")
            metrics = connection.getresponse().read().decode()
        assert 'classifier_refusals_total{code="malformed_request"} 1.0' in metrics
        assert 'classifier_requests_total{method="other",route="other",status="400"} 1.0' in metrics
        name = json.loads(answer.partition(b"\r\n\r\n")[2])["instance"]
        while f'"request_id": "{name}"' not in service.log.read_text():
            time.sleep(0.05)


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
