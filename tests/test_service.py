"""The service as a user starts it: a process of its own, a real engine, pictures over HTTP."""

import base64
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from conftest import Encode, free_port
from fakes import MODEL
from numpy.typing import NDArray
from PIL import Image

from app import imaging
from app.repository import Repository, Version
from app.settings import PREFIX

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = "resnet18-cifar10"
INFO = re.compile(r"INFO:|\S+ \S+ INFO ")  # as uvicorn writes it alone, and as `python -m app` does
READY_WITHIN_S = 120  # loading TensorFlow takes seconds, on a machine with other work much longer

pytestmark = pytest.mark.timeout(300)


def environment(**settings: object) -> dict[str, str]:
    """This one, without settings that are not the test's own."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("CLASSIFIER_")}
    return outer | {f"CLASSIFIER_{name.upper()}": str(value) for name, value in settings.items()}


class Service:
    """A running `python -m app`."""

    def __init__(self, port: int, grpc_port: int, process: subprocess.Popen[str], log: Path) -> None:
        self.address = f"127.0.0.1:{port}"
        self.grpc_address = f"127.0.0.1:{grpc_port}"
        self.process = process
        self.log = log
        self.client = httpx.Client(base_url=f"http://{self.address}", timeout=20, verify=False)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.client.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        pytest.fail(f"not ready within {READY_WITHIN_S} s:\n{self.log.read_text()}")


def running(log: Path, *command: str, **settings: object) -> AbstractContextManager[Service]:
    return started([sys.executable, "-m", *command], log, settings)


@contextmanager
def started(command: Sequence[str], log: Path, settings: Mapping[str, object]) -> Iterator[Service]:
    port, grpc_port = free_port(), free_port()
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--grpc-port", str(grpc_port)],
            stdout=stream,
            stderr=stream,
            env=environment(**settings),
            text=True,
        )
    service = Service(port, grpc_port, process, log)
    try:
        yield service
    finally:
        process.kill()
        process.wait()
        service.client.close()


@pytest.fixture(scope="module")
def service(saved_model: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    root = saved_model.path.parent.parent
    log = tmp_path_factory.mktemp("service") / "log"
    with running(log, "app", model_root=root, model_name=MODEL, engine_threads=1, drain_s=1) as service:
        yield service


def test_it_lives_while_it_loads_and_then_is_ready(service: Service) -> None:
    seen: list[int] = []
    while not seen or seen[-1] != 200:
        try:
            assert service.client.get("/livez").status_code == 200
            seen.append(service.client.get("/readyz").status_code)
        except httpx.TransportError:
            pass
        assert service.process.poll() is None, service.log.read_text()
        time.sleep(0.1)
    assert seen[0] == 503
    assert set(seen) == {503, 200}


@pytest.mark.parametrize(("colour", "label"), [("red", "red"), ("lime", "green"), ("blue", "blue")])
def test_a_picture_gets_the_answer_of_the_model(
    service: Service, encode: Encode, colour: str, label: str
) -> None:
    service.wait_until_ready()
    answer = service.client.post("/predict", files={"file": encode(colour, "JPEG")})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["label"], answer.json()["model"]["engine"]) == (label, "tensorflow")
    assert sum(answer.json()["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_the_log_names_the_client_behind_a_proxy_of_this_machine(service: Service, encode: Encode) -> None:
    service.wait_until_ready()
    for forwarded in ({}, {"X-Forwarded-For": "203.0.113.9"}):
        service.client.post("/predict", files={"file": encode("red")}, headers=forwarded)
    deadline = time.monotonic() + 20  # lines are written a moment later
    while "203.0.113.9" not in (log := service.log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first, second = [line for line in log.splitlines() if "path=/predict" in line][-2:]
    assert "client=127.0.0.1 " in first
    assert "client=203.0.113.9 " in second


def test_photographs_are_taken_as_they_are(service: Service) -> None:
    service.wait_until_ready()
    photographs = sorted((ROOT / "examples").glob("*.jpg"))
    assert photographs
    for photograph in photographs:
        answer = service.client.post("/predict", files={"file": photograph.read_bytes()})
        assert answer.json()["image"]["format"] == "JPEG"


def test_the_log_holds_no_traceback_and_no_chatter_of_the_engine(service: Service) -> None:
    service.wait_until_ready()
    log = service.log.read_text()
    assert f"{MODEL} version 1 is loaded on tensorflow (float32)" in log
    assert "Traceback" not in log
    assert "oneDNN" not in log
    assert "absl::" not in log


# The last test of the service that the others share: it stops it.
def test_after_sigterm_it_says_so_goes_on_answering_and_exits_with_0(
    service: Service, encode: Encode
) -> None:
    service.wait_until_ready()
    picture = {"file": encode("red")}
    peer = triton_grpc.InferenceServerClient(service.grpc_address)
    assert peer.is_server_ready()
    service.process.send_signal(signal.SIGTERM)
    began, refused_at, answered = time.monotonic(), None, 0
    while service.process.poll() is None and time.monotonic() - began < 60:
        try:
            ready = service.client.get("/readyz")
            if ready.status_code == 503:
                refused_at = refused_at or time.monotonic() - began
                assert service.client.post("/predict", files=picture).status_code == 200
                answered += 1
            if answered == 1:
                assert not peer.is_server_ready()
                assert peer.infer(MODEL, [files_input(triton_grpc, encode("red"))])
        except httpx.TransportError:
            time.sleep(0.05)
    peer.close()
    assert service.process.wait(timeout=30) == 0
    assert refused_at is not None
    assert answered >= 1
    assert "Traceback" not in service.log.read_text()


# Starts that fail


def fails_to_start(*command: str, switch: str = "-m", **settings: object) -> str:
    """Runs until it gives up; the one line that it says."""
    failed = subprocess.run(
        [sys.executable, switch, *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(**settings),
        cwd=ROOT,
    )
    assert failed.returncode == 2, failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout
    lines = (failed.stderr + failed.stdout).splitlines()
    return "\n".join(line for line in lines if not INFO.match(line))


@pytest.mark.parametrize("command", [["app"], ["uvicorn", "app.main:app"]], ids=["python -m app", "uvicorn"])
def test_a_missing_model_is_one_sentence(tmp_path: Path, command: list[str]) -> None:
    said = fails_to_start(*command, "--port", str(free_port()), model_root=tmp_path)
    assert len(said.splitlines()) == 1
    assert f"No version of the model {SHIPPED} in {tmp_path}" in said


@pytest.mark.parametrize("command", [["app"], ["uvicorn", "app.main:app"]], ids=["python -m app", "uvicorn"])
def test_a_damaged_model_is_one_sentence(repository: Repository, command: list[str]) -> None:
    (repository.root / MODEL / "1/weights.bin").write_bytes(b"others!")
    said = fails_to_start(*command, "--port", str(free_port()), model_root=repository.root, model_name=MODEL)
    assert len(said.splitlines()) == 1
    assert "is damaged: weights.bin has another sha256" in said


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = fails_to_start("app", "--port", str(port))
        other = fails_to_start("app", "--port", str(free_port()), "--grpc-port", str(port))
    assert said.startswith(f"Cannot listen on 127.0.0.1 port {port}: Address already in use.")
    assert f"Choose another with --host and --port ({PREFIX}HOST and {PREFIX}PORT)" in said
    assert other == said.replace("--port", "--grpc-port").replace(f"{PREFIX}PORT", f"{PREFIX}GRPC_PORT")


def test_a_port_for_grpc_without_its_package_is_one_sentence(repository: Repository) -> None:
    program = "import sys; sys.modules['grpc'] = None; from app.__main__ import main; sys.exit(main())"
    options = ["--port", str(free_port()), "--grpc-port", str(free_port())]
    said = fails_to_start(program, *options, switch="-c", model_root=repository.root, model_name=MODEL)
    assert len(said.splitlines()) == 1
    assert f"{PREFIX}GRPC_PORT is set, but the package grpc is not installed. Install 'image-" in said


@pytest.mark.parametrize("command", [["app"], ["uvicorn", "app.main:app"]], ids=["python -m app", "uvicorn"])
def test_a_bad_setting_is_one_sentence(command: list[str]) -> None:
    said = fails_to_start(*command, max_pixels="many")
    assert said.startswith("The setting CLASSIFIER_MAX_PIXELS cannot be 'many'")
    assert len(said.splitlines()) == 1


def test_the_help_names_every_setting() -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "app", "--help"], check=True, capture_output=True, text=True
    )
    assert {"--port", "--model-root", "--max-pixels"} <= set(helped.stdout.replace(",", " ").split())
    assert "CLASSIFIER_MAX_PIXELS" in helped.stdout


# The model that ships


@pytest.fixture(scope="module")
def shipped() -> Path:
    if not Repository(ROOT / "model").versions(SHIPPED):
        pytest.skip("no version of the model that ships is published in this checkout")
    return ROOT / "model"


@pytest.fixture(scope="module")
def shipped_service(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("shipped") / "log"
    with running(log, "app", model_root=shipped) as service:
        service.wait_until_ready()
        yield service


@pytest.mark.parametrize("photograph", sorted((ROOT / "examples").glob("*.jpg")), ids=lambda path: path.stem)
def test_the_model_that_ships_answers_the_photographs_that_ship(
    shipped_service: Service, photograph: Path
) -> None:
    body = shipped_service.client.post("/predict", files={"file": photograph.read_bytes()}).json()
    assert len(body["probabilities"]) == 10
    assert sum(body["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    # Some of them show none of the ten classes.
    assert body["label"] == photograph.stem or photograph.stem not in body["probabilities"], body


def files_input(library: Any, *files: bytes) -> Any:
    """Files for a module of tritonclient, in the form that it sends unless told otherwise."""
    tensor = library.InferInput("image_bytes", [len(files)], "BYTES")
    tensor.set_data_from_numpy(np.array(files, dtype=object))
    return tensor


def pixels_input(library: Any, pixels: NDArray[np.uint8]) -> Any:
    tensor = library.InferInput("images", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    return tensor


def answers(service: Service, file: bytes) -> Iterator[tuple[str, Any]]:
    """The probabilities of one picture, by every way that there is to ask for them."""
    text, pixels = base64.b64encode(file).decode(), imaging.decode(file).pixels[np.newaxis]
    octets = {"Content-Type": "application/octet-stream"}

    def posted(path: str, **body: Any) -> Any:
        answer = service.client.post(path.replace("MODEL", f"models/{SHIPPED}"), **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def tensor(**tensor: Any) -> Any:
        return posted("/v2/MODEL/infer", json={"inputs": [tensor]})["outputs"][0]["data"]

    yield "predict", list(posted("/predict", content=file, headers=octets)["probabilities"].values())
    batch = posted("/predict/batch", files={"file": file})["results"][0]
    yield "batch", list(batch["probabilities"].values())
    for instance in ({"b64": text}, pixels[0].tolist()):
        yield "v1", posted("/v1/MODEL:predict", json={"instances": [instance]})["predictions"][0]
        yield "v1 column", posted("/v1/MODEL:predict", json={"inputs": [instance]})["outputs"][0]
    examples = posted("/v1/MODEL:classify", json={"examples": [{"image_bytes": {"b64": text}}]})
    yield "v1 classify", [probability for _, probability in examples["results"][0]]
    yield "v2", tensor(name="image_bytes", datatype="BYTES", shape=[1], data=[text])
    yield "v2 pixels", tensor(name="images", datatype="UINT8", shape=[1, 32, 32, 3], data=pixels.tolist())
    for library, address in ((triton_http, service.address), (triton_grpc, service.grpc_address)):
        with library.InferenceServerClient(address) as client:
            for given in (files_input(library, file), pixels_input(library, pixels)):
                yield library.__name__, client.infer(SHIPPED, [given]).as_numpy("probabilities")[0]


@pytest.mark.parametrize("photograph", sorted((ROOT / "examples").glob("*.jpg")), ids=lambda path: path.stem)
def test_every_way_in_gives_the_same_probabilities(shipped_service: Service, photograph: Path) -> None:
    (_, first), *others = answers(shipped_service, photograph.read_bytes())
    assert len(others) == 12
    assert [name for name, found in others if not np.array_equal(np.float32(found), np.float32(first))] == []


# What goes wrong around it


def test_where_nothing_can_be_written_every_picture_is_answered(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, and no folder for what is passing: a large form and the log would need them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    large = BytesIO()
    Image.fromarray(noise).save(large, "JPEG", quality=95)
    assert len(large.getvalue()) > 2**20
    with running(tmp_path / "log", "app", model_root=shipped) as service:
        service.wait_until_ready()
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        logged = service.log.stat().st_size
        for path in ("/predict", "/predict/batch", "/explain"):
            for data in ((ROOT / "examples" / "cat.jpg").read_bytes(), large.getvalue()):
                answer = service.client.post(path, files={"file": data})
                assert answer.status_code == 200, answer.text
        assert service.client.get("/metrics").status_code == 200
        assert service.log.stat().st_size == logged
        service.process.terminate()
        assert service.process.wait(timeout=60) == 0


def test_connections_leave_nothing_behind_however_they_end(shipped_service: Service) -> None:
    picture = (ROOT / "examples" / "cat.jpg").read_bytes()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(picture)
    whole = head + picture
    process = Path("/proc") / str(shipped_service.process.pid)

    def connect(sent: bytes, *, answered: bool) -> None:
        host, _, port = shipped_service.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(sent)
            assert not answered or connection.recv(12) == b"HTTP/1.1 200"

    def held() -> tuple[int, int]:
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    def many(times: int) -> None:
        for _ in range(times):
            connect(whole, answered=True)
            for sent in (b"", head[:20], head, whole[:-1], whole):
                connect(sent, answered=False)

    many(10)
    shipped_service.client.get("/livez")
    time.sleep(1)
    before = held()
    many(60)
    deadline = time.monotonic() + 20
    while held() > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert held() <= before
    assert shipped_service.client.post("/predict", files={"file": picture}).json()["label"] == "cat"


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=20).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_under_load_loses_no_request_of_those_who_heed_readiness(
    shipped: Path, tmp_path: Path, workers: int
) -> None:
    """And none that was on its way when the sockets closed, on a connection that had not asked yet, too."""
    picture = (ROOT / "examples" / "cat.jpg").read_bytes()
    octets = {"Content-Type": "application/octet-stream"}
    leave = threading.Event()

    def ask(service: Service, keeps: bool) -> list[int]:
        """As balancers do: some make a connection for each request, some keep theirs until told otherwise."""
        statuses = []
        with closing(http.client.HTTPConnection(service.address, timeout=20)) as connection:
            while not leave.wait(0.02):
                connection.request("POST", "/predict", picture, octets)
                answer = connection.getresponse()
                statuses.append(answer.status)
                answer.read()
                if not keeps:
                    connection.close()
        return statuses

    settings = {"model_root": shipped, "drain_s": 2, "workers": workers}
    with running(tmp_path / "log", "app", **settings) as service:
        service.wait_until_ready()
        with ThreadPoolExecutor(4) as clients:
            asking = [clients.submit(ask, service, keeps) for keeps in (True, True, False, False)]
            slow = http.client.HTTPConnection(service.address, timeout=60)
            slow.putrequest("POST", "/predict")
            for name, value in (octets | {"Content-Length": str(len(picture))}).items():
                slow.putheader(name, value)
            slow.endheaders(picture[:1000])
            time.sleep(0.5)
            service.process.send_signal(signal.SIGTERM)
            while service.client.get("/readyz").status_code == 200:
                time.sleep(0.05)
            quiet = http.client.HTTPConnection(service.address, timeout=60)
            quiet.connect()
            time.sleep(0.5)  # balancers take a moment to notice
            leave.set()
            statuses = [status for each in asking for status in each.result()]
        assert set(statuses) == {200}
        service.client.close()
        while listens(service.address):
            time.sleep(0.05)
        quiet.request("POST", "/predict", picture, octets)
        slow.send(picture[1000:])
        for connection in (quiet, slow):
            assert json.loads(connection.getresponse().read())["label"] == "cat"
            connection.close()
        assert service.process.wait(timeout=60) == 0
