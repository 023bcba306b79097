"""Clients that send no HTTP, too much of it, or not enough, over real sockets."""

import asyncio
import json
import logging
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

import httpx2 as httpx
import pytest
import uvicorn
from asgi import until
from conftest import Encode, free_port
from fakes import MODEL, FakeEngine, publish_fake

from app.http_protocol import BODY_GRACE_S, bounded
from app.joined_transport import LINGER_BYTES, LINGER_S, JoinedTransport
from app.logs import FIELDS
from app.main import Service, create_app
from app.metrics import Metrics
from app.model import State
from app.repository import Repository
from app.settings import Settings

HEADER_TIMEOUT_S = 0.6
BODY_TIMEOUT_S = 1.0
KEEP_ALIVE_S = 3
LATE_S = 5.0  # the machine may be busy

Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A service that has little patience."""
    repository = Repository(tmp_path_factory.mktemp("impatient"))
    publish_fake(repository)
    settings = Settings(
        model_root=repository.root,
        model_name=MODEL,
        header_timeout_s=HEADER_TIMEOUT_S,
        body_timeout_s=BODY_TIMEOUT_S,
        max_body_bytes=1_000_000,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(settings, lambda *_: FakeEngine())
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=bounded(settings, metrics=app.state.metrics),
            log_config=None,
            ws="none",
            lifespan="on",
            timeout_keep_alive=KEEP_ALIVE_S,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    number: int = listener.getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{number}", verify=False) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
    yield number
    server.should_exit = True
    thread.join()


@pytest.fixture
def connect(port: int) -> Iterator[Connect]:
    sockets = []

    def connected() -> socket.socket:
        sockets.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        return sockets[-1]

    yield connected
    for each in sockets:
        each.close()


@contextmanager
def takes(at_least_s: float, at_most_s: float) -> Iterator[None]:
    began = time.monotonic()  # a little after the service began to count
    yield
    assert at_least_s / 2 <= time.monotonic() - began <= at_most_s + LATE_S


def until_closed(client: socket.socket) -> bytes:
    """What the service sends before it closes the connection."""
    received = b""
    try:
        while data := client.recv(65_536):
            received += data
    except ConnectionResetError:
        pass  # it closed while we were still sending
    return received


def problem_in(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()
    problem: dict[str, Any] = json.loads(body)
    assert b"\r\nx-request-id: %b\r\n" % problem["instance"].encode() in head.lower() + b"\r\n"
    assert problem["status"] == status
    assert problem["type"] == f"/docs#{problem['code']}"
    assert problem["instance"]
    return problem


def assert_still_serving(connect: Connect) -> None:
    with closing(connect()) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert until_closed(client).startswith(b"HTTP/1.1 200")


# Too much


@pytest.mark.parametrize(
    ("head", "limit"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 101 + b"\r\n", 100),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\na: " + b"b" * 40_000 + b"\r\n\r\n", 32 * 1024),
        (b"GET /livez?" + b"b" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 32 * 1024),
        (
            b"POST /predict HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 101 + b"Content-Length: 1\r\n\r\nx",
            100,
        ),
        (
            b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            + b"a: b\r\n" * 200,
            100,
        ),
    ],
    ids=["many headers", "a long header", "a long address", "many headers of a post", "trailers"],
)
def test_more_headers_than_allowed_are_a_431(connect: Connect, head: bytes, limit: int) -> None:
    client = connect()
    client.sendall(head)
    answer = until_closed(client)
    if b"Transfer" not in head:  # the application may answer the request before its trailers end
        problem = problem_in(answer)
        assert (problem["status"], problem["code"], problem["limit"]) == (431, "headers_too_large", limit)
        assert problem["received"] > limit
    assert_still_serving(connect)


def test_a_header_that_never_ends_is_refused_long_before_it_fills_the_memory(connect: Connect) -> None:
    client = connect()
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nendless: ")
    sent = 0
    with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
        while sent < 50_000_000:
            sent += client.send(b"x" * 65_536)
    assert sent < 20_000_000  # most of it in buffers of the two kernels


def test_headers_up_to_the_limit_are_fine(connect: Connect) -> None:
    client = connect()
    client.sendall(
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\na: "
        + b"b" * 30_000
        + b"\r\n"
        + b"c: d\r\n" * 90
        + b"\r\n"
    )
    assert until_closed(client).startswith(b"HTTP/1.1 200")


# Too slow


def test_a_silent_connection_is_closed(connect: Connect) -> None:
    client = connect()
    with takes(HEADER_TIMEOUT_S, HEADER_TIMEOUT_S):
        assert until_closed(client) == b""


@pytest.mark.parametrize("start", [b"G", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\n"])
def test_headers_that_do_not_end_in_time_are_a_408(connect: Connect, start: bytes) -> None:
    client = connect()
    client.sendall(start)
    with takes(HEADER_TIMEOUT_S, HEADER_TIMEOUT_S):
        problem = problem_in(until_closed(client))
    assert (problem["status"], problem["code"], problem["limit"]) == (
        408,
        "headers_timeout",
        HEADER_TIMEOUT_S,
    )


def test_a_byte_now_and_then_wins_no_time(connect: Connect) -> None:
    client = connect()
    client.settimeout(0.1)
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\na: ")
    with takes(HEADER_TIMEOUT_S, HEADER_TIMEOUT_S):
        received = b""
        while not received:
            client.sendall(b"x")
            try:
                received = client.recv(65_536)
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 408")


def test_a_line_break_now_and_then_wins_no_time_either(connect: Connect) -> None:
    client = connect()
    client.settimeout(0.1)
    with takes(HEADER_TIMEOUT_S, HEADER_TIMEOUT_S):
        closed = False
        while not closed:
            try:
                client.sendall(b"\r\n")
                closed = client.recv(65_536) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True


def test_a_connection_waits_for_its_next_request_from_the_last_answer_on(connect: Connect) -> None:
    client = connect()
    for pause_s in (0, KEEP_ALIVE_S * 2 / 3):
        time.sleep(pause_s)
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
    with takes(KEEP_ALIVE_S, KEEP_ALIVE_S):
        assert until_closed(client) == b""


def test_a_line_break_behind_an_answer_keeps_no_connection_open(connect: Connect) -> None:
    client = connect()
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(65_536).startswith(b"HTTP/1.1 200")
    with takes(HEADER_TIMEOUT_S, HEADER_TIMEOUT_S):
        client.sendall(b"\r\n")
        assert until_closed(client) == b""


def test_a_line_break_between_requests_is_as_good_as_none(connect: Connect) -> None:
    client = connect()
    for _ in range(3):
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        client.sendall(b"\r\n")
        time.sleep(HEADER_TIMEOUT_S / 3)


@pytest.mark.parametrize("body", [b"", b"half of the bo"])
def test_a_body_that_does_not_arrive_in_time_is_a_408(connect: Connect, body: bytes) -> None:
    client = connect()
    client.sendall(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\n" + body
    )
    with takes(BODY_TIMEOUT_S, BODY_TIMEOUT_S + BODY_GRACE_S):
        problem = problem_in(until_closed(client))
    assert (problem["status"], problem["code"], problem["limit"]) == (408, "body_timeout", BODY_TIMEOUT_S)


def test_a_body_that_nobody_reads_keeps_no_connection_open(connect: Connect) -> None:
    client = connect()
    client.settimeout(0.2)
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
    with takes(0, BODY_TIMEOUT_S + BODY_GRACE_S):
        closed = False
        while not closed:
            try:
                client.sendall(b"x")
                closed = client.recv(65_536) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True


def test_a_connection_that_is_kept_alive_serves_again(connect: Connect) -> None:
    client = connect()
    for _ in range(3):
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        time.sleep(HEADER_TIMEOUT_S / 3)


def test_requests_sent_at_once_are_answered_one_after_the_other(connect: Connect) -> None:
    client = connect()
    client.sendall(
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 4
        + b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert until_closed(client).count(b"HTTP/1.1 200") == 5


def test_an_upload_of_many_pieces_in_time_is_answered(connect: Connect, encode: Encode) -> None:
    data, client = encode("red"), connect()
    client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nConnection: close\r\n")
    client.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
    for byte in data:
        client.sendall(b"1\r\n%c\r\n" % byte)
    client.sendall(b"0\r\n\r\n")
    assert until_closed(client).startswith(b"HTTP/1.1 200")


# Not HTTP, or not what it says


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500),
        b"\0\xff\xfe garbage\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"FOO /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_a_400_and_the_connection_closed(connect: Connect, data: bytes) -> None:
    client = connect()
    client.sendall(data)
    problem = problem_in(until_closed(client))
    assert (problem["status"], problem["code"]) == (400, "malformed_request")
    assert_still_serving(connect)


def test_http_1_0_needs_no_host(connect: Connect) -> None:
    client = connect()
    client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
    assert until_closed(client).startswith(b"HTTP/1.1 200")


def test_a_broken_chunk_ends_the_request(connect: Connect) -> None:
    client = connect()
    client.sendall(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"
    )
    assert problem_in(until_closed(client))["status"] == 400


def test_a_chunked_body_is_counted_as_it_arrives(connect: Connect) -> None:
    client = connect()
    client.sendall(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    sent = 0
    try:
        while sent < 2 * LINGER_BYTES:
            client.sendall(b"10000\r\n" + bytes(65_536) + b"\r\n")
            sent += 65_536
    except OSError:
        pass
    assert sent < LINGER_BYTES + 20_000_000, "what may be in the buffers of both sides"
    assert_still_serving(connect)


@pytest.mark.parametrize("how", [b"Content-Length: 12000000", b"Transfer-Encoding: chunked"])
def test_a_client_that_sends_all_before_it_reads_gets_the_refusal(connect: Connect, how: bytes) -> None:
    """As most libraries do; to close at once would reset the connection under them."""
    client = connect()
    client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n" + how + b"\r\n\r\n")
    chunk = bytes(1_000_000)
    for _ in range(12):
        client.sendall(chunk if b"Length" in how else b"%x\r\n%b\r\n" % (len(chunk), chunk))
    problem = problem_in(received := until_closed(client))
    assert (problem["status"], problem["limit"]) == (413, 1_000_000)
    assert received.endswith(b"}"), "the whole of it came"


def test_a_client_that_leaves_in_the_middle_harms_nobody(connect: Connect) -> None:
    for _ in range(20):
        client = connect()
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 5000\r\n\r\nhalf"
        )
        client.close()
    assert_still_serving(connect)


# What is told of refusals

UPLOAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
CHUNKED = UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n"
HALF = UPLOAD + b"Content-Length: 5000\r\n\r\nhalf"


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [getattr(record, FIELDS) for record in caplog.records if record.name == "app.requests"]


def counted(connect: Connect) -> dict[str, float]:
    """What the service has counted up to now."""
    with closing(connect()) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return counters(until_closed(client))


def counters(text: bytes) -> dict[str, float]:
    found = re.findall(r"^classifier_(\w+_total\{.*\}) (\S+)$", text.decode(), re.MULTILINE)
    return {name: float(value) for name, value in found}


@pytest.mark.parametrize(
    ("pieces", "status", "code", "method", "path", "route"),
    [
        ([b"\x16\x03\x01\x02"], 400, "malformed_request", None, None, "other"),
        ([b"GET /livez?token=hush HTTP/9.9\r\n"], 400, "malformed_request", "GET", "/livez", "other"),
        ([b"GET http://me:hush@x/ HTTP/9.9\r\n"], 400, "malformed_request", "GET", None, "other"),
        ([b"GET /livez HTTP/1.1\r\n\r\n"], 400, "malformed_request", "GET", "/livez", "other"),
        (
            [b"CONNECT hush@x:1 HTTP/1.1\r\nHost: x\r\n\r\n"],
            400,
            "malformed_request",
            "CONNECT",
            None,
            "other",
        ),
        ([CHUNKED + b"xyz\r\n"], 400, "malformed_request", "POST", "/predict", "/predict"),
        ([CHUNKED, b"xyz\r\n"], 400, "malformed_request", "POST", "/predict", "/predict"),
        ([b"GE"], 408, "headers_timeout", None, None, "other"),
        ([b"POST /predict#hush HTTP/1.1\r\nHost"], 408, "headers_timeout", "POST", "/predict", "other"),
        ([HALF], 408, "body_timeout", "POST", "/predict", "/predict"),
        ([UPLOAD + b"a: b\r\n" * 101], 431, "headers_too_large", "POST", "/predict", "other"),
        ([b"GET /" + 40_000 * b"a"], 431, "headers_too_large", "GET", "/" + 199 * "a", "other"),
        ([CHUNKED, b"0\r\n" + b"a: b\r\n" * 101], 431, "headers_too_large", "POST", "/predict", "/predict"),
    ],
)
def test_a_refusal_is_counted_and_has_one_line_and_a_name(
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    pieces: list[bytes],
    status: int,
    code: str,
    method: str | None,
    path: str | None,
    route: str,
) -> None:
    caplog.set_level(logging.INFO, logger="app.requests")
    before = counted(connect)
    caplog.clear()  # of what the tests before left behind
    with closing(connect()) as client:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.1)  # so that the application begins with what is whole
        problem = problem_in(until_closed(client))
    assert (problem["status"], problem["code"]) == (status, code)
    time.sleep(0.1)  # and ends
    after = counted(connect)
    (line,) = lines(caplog)
    assert (line["status"], line["code"], line["client"]) == (status, code, "127.0.0.1")
    assert (line.get("method"), line.get("path")) == (method, path)
    assert line["request_id"] == problem["instance"]
    assert "hush" not in str(line)
    changed = {
        name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name)
    }
    label = method if method in ("GET", "POST") else "other"
    labels = f'method="{label}",route="{route}",status="{status}"'
    probe = 'requests_total{method="GET",route="/metrics",status="200"}'
    assert changed.pop(probe) == 1
    assert changed == {f'refusals_total{{code="{code}"}}': 1, f"requests_total{{{labels}}}": 1}


@pytest.mark.parametrize(
    ("data", "waited_s"),
    [
        (b"GET /livez HTTP/1.1\r\nX-Request-ID: mine\r\nHost: x\r\n", HEADER_TIMEOUT_S),
        (UPLOAD + b"X-Request-ID: mine\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 0),
    ],
)
def test_a_refusal_has_the_name_that_the_caller_gave_it_and_its_time(
    connect: Connect, caplog: pytest.LogCaptureFixture, data: bytes, waited_s: float
) -> None:
    caplog.set_level(logging.INFO, logger="app.requests")
    client = connect()
    client.sendall(data)
    assert problem_in(until_closed(client))["instance"] == "mine"
    (line,) = lines(caplog)
    assert (line["request_id"], line["ms"] >= 1000 * waited_s) == ("mine", True)


def test_a_request_that_has_its_answer_gets_no_second_one(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="app.requests")
    client = connect()
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (received := client.recv(65_536)).startswith(b"HTTP/1.1 200")
    client.sendall(b"xyz\r\n")
    assert (received + until_closed(client)).count(b"HTTP/1.1") == 1
    assert [line["status"] for line in lines(caplog)] == [200]


@asynccontextmanager
async def in_this_loop(app: Service, protocol: type[asyncio.Protocol]) -> AsyncIterator[int]:
    """The port of a service that the test shares an event loop with."""
    config = uvicorn.Config(app, port=(port := free_port()), http=protocol, log_config=None, ws="none")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started and app.state.serving.state is State.READY)
    yield port
    server.should_exit = True
    await running


@pytest.mark.anyio
async def test_a_body_that_the_server_waits_for_no_longer_has_one_line_though_the_application_does(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="app.requests")
    app = create_app(settings, lambda *_: FakeEngine())
    impatient = settings.model_copy(update={"body_timeout_s": 0.1})
    async with in_this_loop(app, bounded(impatient, metrics=app.state.metrics)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HALF)
        await until(lambda: app.state.gate.in_flight == 1)
        problem = problem_in(await asyncio.wait_for(reader.read(), 20))
        writer.close()
        await until(lambda: app.state.gate.in_flight == 0)
    (line,) = lines(caplog)
    assert (line["code"], line["status"]) == (problem["code"], 408) == ("body_timeout", 408)
    assert line["request_id"] == problem["instance"]
    assert line["ms"] >= 1000 * BODY_GRACE_S
    found = counters(app.state.metrics.render())
    assert found['requests_total{method="POST",route="/predict",status="408"}'] == 1
    assert found['refusals_total{code="body_timeout"}'] == 1
    assert 'refusals_total{code="client_disconnected"}' not in found


@pytest.mark.anyio
@pytest.mark.parametrize("is_told", [True, False])
async def test_a_request_that_waits_for_the_one_before_it_and_is_refused_has_a_line_too(
    settings: Settings, encode: Encode, caplog: pytest.LogCaptureFixture, is_told: bool
) -> None:
    """Nobody needs metrics to say no."""
    caplog.set_level(logging.INFO, logger="app.requests")
    engine, picture = FakeEngine(), encode("red")
    app = create_app(settings, lambda *_: engine)
    impatient = settings.model_copy(update={"body_timeout_s": 0.1})
    metrics: Metrics | None = app.state.metrics if is_told else None
    async with in_this_loop(app, bounded(impatient, metrics=metrics)) as port:
        engine.gate.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UPLOAD + b"Content-Length: %d\r\n\r\n" % len(picture) + picture + HALF)
        problem = problem_in(await asyncio.wait_for(reader.read(), 20))
        writer.close()
        engine.gate.set()
        await until(lambda: app.state.gate.in_flight == 0)
    assert problem["code"] == "body_timeout"
    refused, left = lines(caplog)
    assert (refused["request_id"], refused["status"], left["status"]) == (problem["instance"], 408, 499)
    found = counters(app.state.metrics.render())
    assert ('refusals_total{code="body_timeout"}' in found) == is_told


# In one piece or in several


def part(headers: bytes, content: bytes = b"x") -> bytes:
    return b"--b\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


FILE = b'Content-Disposition: form-data; name="file"; filename="a.png"'
TEXT = b'Content-Disposition: form-data; name="a"'


def form(content: bytes, name: bytes = b"file") -> bytes:
    disposition = b'Content-Disposition: form-data; name="%b"; filename="a.png"' % name
    return part(disposition, content) + b"--b--\r\n"


def answer_to(connect: Connect, *pieces: bytes) -> tuple[bytes, list[bytes], dict[str, Any]]:
    """Status, headers and document, but for what differs from one answer to the next."""
    client = connect()
    for piece in pieces:
        client.sendall(piece)
        time.sleep(0.05)
    received = b""
    while b"\r\n\r\n" not in received or not received.rstrip().endswith(b"}"):
        received += client.recv(65_536)
    head, _, body = received.partition(b"\r\n\r\n")
    status, *headers = head.lower().split(b"\r\n")
    document = {name: value for name, value in json.loads(body).items() if name != "instance"}
    names = sorted(each.partition(b":")[0] for each in headers)
    return status, names, document


@pytest.mark.parametrize(
    ("content_type", "wrapped"),
    [
        (b"multipart/form-data; boundary=b", form),
        (b"multipart/form-data; boundary=b", lambda data: form(data, name=b"picture")),
        (b"multipart/form-data; boundary=b", lambda data: part(FILE, data) + form(data)),
        (b"multipart/form-data; boundary=other", form),
        (b"image/png", bytes),
        (b"IMAGE/PNG", bytes),
        (b"application/octet-stream", bytes),
        (b"application/octet-stream; a=b", bytes),
        (b"text/plain", bytes),
        (b"image/png", lambda _: b""),
        (b"image/png", lambda _: b"no picture"),
        (b"multipart/form-data; boundary=b", lambda _: form(b"")),
        (b"image/png", lambda data: data * 400),
    ],
)
@pytest.mark.parametrize("header", [b"", b"X-Request-Timeout-Ms: 9000\r\n", b"X-Request-Timeout-Ms: no\r\n"])
def test_a_request_in_one_piece_is_answered_as_one_in_several(
    connect: Connect, encode: Encode, content_type: bytes, wrapped: Callable[[bytes], bytes], header: bytes
) -> None:
    body = wrapped(encode("red"))
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\n%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    whole = head % (header, content_type, len(body)) + body
    at_once = answer_to(connect, whole)
    assert at_once == answer_to(connect, whole[:40], whole[40:])
    assert at_once == answer_to(connect, whole[: len(whole) - len(body)], body) or not body


def test_what_follows_a_request_in_one_piece_is_answered_after_it(connect: Connect, encode: Encode) -> None:
    body, client = encode("red"), connect()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    client.sendall(head % len(body) + body)
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    client.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    received = until_closed(client)
    places = [received.index(each) for each in (b'"probabilities"', b'"live"', b"HTTP/1.1 404")]
    assert places == sorted(places)


# Forms


def post(connect: Connect, content_type: bytes, body: bytes) -> dict[str, Any]:
    client = connect()
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n"
    )
    client.sendall(head % (content_type, len(body)) + body)
    return problem_in(until_closed(client))


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"multipart/form-data", part(FILE) + b"--b--\r\n"),
        (b"multipart/form-data; boundary=" + b"b" * 300, part(FILE) + b"--b--\r\n"),
        (b"multipart/form-data; boundary=other", part(FILE) + b"--b--\r\n"),
        (b"multipart/form-data; boundary=b", part(TEXT) * 5_000 + b"--b--\r\n"),
        (b"multipart/form-data; boundary=b", part(FILE) * 5_000 + b"--b--\r\n"),
        (b"multipart/form-data; boundary=b", part(FILE + b"\r\na: b" * 20) + b"--b--\r\n"),
        (b"multipart/form-data; boundary=b", part(FILE + b"\r\na: " + b"b" * 9_000) + b"--b--\r\n"),
        (b"multipart/form-data; boundary=b", part(FILE)),
        (b"multipart/form-data; boundary=b", part(b"a: b") + b"--b--\r\n"),
        (b"multipart/form-data; boundary=b", b""),
        (b"multipart/form-data; boundary=b", b"\r\n" * 100_000),
    ],
)
def test_a_form_that_is_none_is_a_400(connect: Connect, content_type: bytes, body: bytes) -> None:
    assert post(connect, content_type, body)["status"] == 400


@pytest.mark.parametrize("charset", [b"undefined", b"punycode", b"idna", b"zlib_codec", b"rot13", b"\xff"])
def test_no_character_set_is_a_fault_of_the_service(connect: Connect, charset: bytes) -> None:
    kind = b"multipart/form-data; boundary=b; charset=" + charset
    body = (
        part(b'Content-Disposition: form-data; name="f\xffle"; filename="\xff\0.png"')
        + part(FILE)
        + b"--b--\r\n"
    )
    assert post(connect, kind, body)["status"] in (400, 415)


# What is sent


class Wire:
    """As much of a transport as is written to."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.asked: list[str] = []

    def writelines(self, parts: list[bytes]) -> None:
        assert not self.is_closed
        self.sent.append(b"".join(parts))

    @property
    def is_closed(self) -> bool:
        return "close" in self.asked

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.asked.append("close")

    def write_eof(self) -> None:
        self.asked.append("write_eof")

    def resume_reading(self) -> None:
        self.asked.append("resume_reading")


def joined(wire: Wire) -> JoinedTransport:
    return JoinedTransport(wire, asyncio.get_running_loop())  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_head_and_body_leave_together() -> None:
    transport = joined(wire := Wire())
    transport.write(b"head ")
    transport.write(b"body")
    assert wire.sent == []
    await asyncio.sleep(0)
    transport.write(b"next")
    await asyncio.sleep(0)
    assert wire.sent == [b"head body", b"next"]


@pytest.mark.anyio
async def test_what_was_written_is_sent_before_the_end_and_nothing_after_it() -> None:
    transport = joined(wire := Wire())
    transport.write(b"last words")
    transport.close()
    assert (wire.sent, transport.is_closing()) == ([b"last words"], True)
    transport.write(b"too late")
    await asyncio.sleep(0)
    assert wire.sent == [b"last words"]


def refused(wire: Wire) -> JoinedTransport:
    """One that had an answer for a client that is still sending."""
    transport = joined(wire)
    transport.has_more_to_come = True
    transport.write(b"answer")
    transport.close()
    assert (wire.sent, wire.asked) == ([b"answer"], ["write_eof", "resume_reading"])
    assert transport.is_closing()
    return transport


@pytest.mark.anyio
async def test_what_is_still_being_sent_is_discarded_up_to_a_limit() -> None:
    transport = refused(wire := Wire())
    transport.discard(LINGER_BYTES)
    assert wire.asked[2:] == []
    transport.discard(1)
    assert wire.asked[2:] == ["close"]
    transport.is_gone()


@pytest.mark.anyio
async def test_a_connection_that_lingers_is_closed_at_once_when_that_is_asked_again() -> None:
    transport = refused(wire := Wire())
    transport.write(b"too late")
    transport.close()
    assert (wire.sent, wire.is_closed) == ([b"answer"], True)
    transport.is_gone()


@pytest.mark.anyio
async def test_a_client_that_never_leaves_is_left_in_time() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    refused(wire := Wire())
    while not wire.is_closed:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert LINGER_S - 0.1 <= loop.time() - began <= LINGER_S + LATE_S
