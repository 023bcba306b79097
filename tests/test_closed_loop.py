"""What wrk sends, and what is read from it."""

import hashlib
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import pairwise

import pytest
from closed_loop import parse, run
from latency import Latency
from load import Body, Load, multipart, raw
from pictures import PICTURES, encoded
from PIL import Image

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


FIRST_PIXELS = "ee53a0cfab0222a520ceebf1ff99dd3403e4998936e29842f6949a5658da0cfb"
Sent = tuple[str, bytes]
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@contextmanager
def recording() -> Iterator[tuple[int, list[Sent]]]:
    """The port of a server, and the content types and bodies that it has received whole."""
    received: list[Sent] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            data = self.rfile.read(length)
            if len(data) == length:
                received.append((self.headers["Content-Type"], data))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is http.server's
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Wrk leaves without waiting for its last answer."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, received
        finally:
            server.shutdown()
            thread.join()


def asked(bodies: Sequence[Body], clients: int) -> tuple[Load, list[Sent]]:
    with recording() as (port, received):
        load = run(port, "/predict", bodies, clients=clients, seconds=1)
    return load, received


@needs_wrk
def test_a_server_gets_each_of_the_bodies_in_turn_as_it_is() -> None:
    forms = [multipart(encoded(PICTURES[0], number), "file", "image/png") for number in range(2)]
    bodies = [*forms, raw(b"12 image/png\n\r\n\0" * 5000)]  # looks like the file that wrk reads
    load, received = asked(bodies, clients=1)
    assert load.failed == 0
    assert len(received) >= load.answered > len(bodies)
    assert set(received) == {(body.content_type, body.data) for body in bodies}
    assert all(one != another for one, another in pairwise(received))
    times = Counter(received).values()
    assert max(times) - min(times) <= 1


@needs_wrk
def test_a_single_body_is_sent_again_and_again() -> None:
    load, received = asked([raw(b"\0\n picture")], clients=2)
    assert load.failed == 0
    assert load.answered > 1
    assert set(received) == {("application/octet-stream", b"\0\n picture")}


def test_every_form_has_a_boundary_of_its_own_and_keeps_it() -> None:
    forms = [multipart(encoded(PICTURES[0], number), "file", "image/png") for number in (0, 1, 0)]
    first, second, again = (form.content_type.partition("boundary=")[2] for form in forms)
    assert first == again != second
    for form, boundary in zip(forms, (first, second, again), strict=True):
        assert form.data.startswith(f"--{boundary}\r\n".encode())
        assert form.data.endswith(f"\r\n--{boundary}--\r\n".encode())


def test_pictures_of_other_numbers_are_others_and_the_first_is_always_the_same() -> None:
    small = PICTURES[0]
    assert len({encoded(small, number) for number in range(small.different)}) == small.different > 128
    image = Image.open(BytesIO(encoded(small)))
    assert hashlib.sha256(image.tobytes()).hexdigest() == FIRST_PIXELS
