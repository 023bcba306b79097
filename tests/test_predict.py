import io
import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager

import httpx2 as httpx
import numpy as np
import pytest
from conftest import Encode
from fakes import FakeEngine, strongest_colour
from numpy.typing import NDArray
from PIL import Image

from app.imaging import FORMATS
from app.settings import Settings

ServingWith = Callable[[Settings, FakeEngine], AbstractContextManager[httpx.Client]]

BYTES = {"Content-Type": "application/octet-stream"}
PROBLEM = "application/problem+json"


def form(data: bytes, name: str = "file", filename: str = "picture") -> dict[str, tuple[str, io.BytesIO]]:
    return {name: (filename, io.BytesIO(data))}


def assert_problem(answer: httpx.Response, status: int, code: str) -> str:
    """Checks everything that a problem promises and returns its detail."""
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == PROBLEM
    assert problem["status"] == status
    assert problem["instance"] == answer.headers["x-request-id"]
    assert problem["type"] == f"/docs#{code}"
    assert problem["title"]
    return str(problem["detail"])


# Answers


def test_a_form_gets_the_promised_answer(client: httpx.Client, encode: Encode) -> None:
    answer = client.post("/predict", files=form(encode("red", "JPEG", quality=95)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert {"label", "class_id", "probability", "probabilities", "model", "image"} <= set(body)
    assert (body["label"], body["class_id"]) == ("red", 0)
    assert body["probability"] == body["probabilities"]["red"] > 0.99
    assert list(body["probabilities"]) == ["red", "green", "blue"]
    assert sum(body["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert body["model"].items() >= {"name": "colours", "version": "1", "engine": "fake"}.items()
    assert body["image"].items() >= {"format": "JPEG", "width": 48, "height": 40}.items()


@pytest.mark.parametrize(
    "kind", ["application/octet-stream", "image/png", "IMAGE/JPEG; q=1", "image/whatever"]
)
def test_a_picture_may_be_the_body_itself_whatever_kind_it_says(
    client: httpx.Client, encode: Encode, kind: str
) -> None:
    answer = client.post("/predict", content=encode("blue"), headers={"Content-Type": kind})
    assert (answer.json()["label"], answer.json()["image"]["format"]) == ("blue", "PNG")


@pytest.mark.parametrize("form_name", FORMATS)
def test_every_format_is_classified_alike(client: httpx.Client, encode: Encode, form_name: str) -> None:
    body = client.post("/predict", files=form(encode("lime", form_name))).json()
    assert (body["label"], body["image"]["format"]) == ("green", form_name)


@pytest.mark.parametrize(
    "filename", ["../../etc/passwd", "a\x00b.png", "ü☃.png", "x" * 3000, "a\r\nX-Evil: 1.png"]
)
def test_the_name_of_a_file_means_nothing(client: httpx.Client, encode: Encode, filename: str) -> None:
    answer = client.post("/predict", files=form(encode("red"), filename=filename))
    assert answer.json()["label"] == "red"
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("charset", ["undefined", "punycode", "zlib_codec", "utf-7", "nonsense"])
def test_a_charset_means_nothing(client: httpx.Client, encode: Encode, charset: str) -> None:
    request = client.build_request("POST", "/predict", files=form(encode("red")))
    request.headers["Content-Type"] += f"; charset={charset}"
    assert client.send(request).json()["label"] == "red"


def test_other_fields_of_the_form_are_ignored(client: httpx.Client, encode: Encode) -> None:
    answer = client.post("/predict", files=form(encode("red")), data={"comment": "hello"})
    assert answer.json()["label"] == "red"


def test_a_body_of_unknown_length_is_taken(client: httpx.Client, encode: Encode) -> None:
    def chunks() -> Iterator[bytes]:
        data = encode("red")
        yield data[:10]
        yield data[10:]

    assert client.post("/predict", content=chunks(), headers=BYTES).json()["label"] == "red"


def test_a_turned_picture_is_described_as_it_is_seen(client: httpx.Client, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    answer = client.post("/predict", files=form(encode("red", "JPEG", exif=exif)))
    assert answer.json()["image"].items() >= {"format": "JPEG", "width": 40, "height": 48}.items()


def test_probabilities_lose_no_digit_that_a_float_has(client: httpx.Client, encode: Encode) -> None:
    colour = np.array([12, 200, 77], dtype=np.uint8)
    image = Image.fromarray(np.broadcast_to(colour, (32, 32, 3)).copy())
    body = client.post("/predict", files=form(encode(image))).json()
    expected = strongest_colour(np.asarray(image)[np.newaxis]).probabilities[0]
    assert np.array_equal(np.array([*body["probabilities"].values()], dtype=np.float32), expected)


def test_the_answer_says_where_the_time_went(client: httpx.Client, encode: Encode) -> None:
    timing = client.post("/predict", files=form(encode("red"))).headers["server-timing"]
    stages = dict(re.findall(r"(\w+);dur=(\d+\.\d\d)", timing))
    assert list(stages) == ["read", "decode", "queue", "infer", "encode", "total"]
    *parts, total = map(float, stages.values())
    assert sum(parts) <= total + 0.05


def test_many_callers_at_once_each_get_their_own_answer(client: httpx.Client, encode: Encode) -> None:
    random = np.random.default_rng(1)
    colours = random.integers(0, 256, (60, 1, 1, 3), dtype=np.uint8)
    images = [np.broadcast_to(colour, (32, 32, 3)).copy() for colour in colours]
    expected = strongest_colour(np.stack(images)).probabilities

    def ask(image: NDArray[np.uint8]) -> list[float]:
        answer = client.post("/predict", content=encode(Image.fromarray(image)), headers=BYTES)
        return list(answer.json()["probabilities"].values())

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, images))
    assert np.allclose(answers, expected, atol=1e-6)


# Refusals


def test_a_request_with_nothing_in_it_is_told_how_to_send_a_file(client: httpx.Client) -> None:
    detail = assert_problem(client.post("/predict"), 400, "missing_file")
    assert "curl -F file=@cat.jpg" in detail


def test_a_form_without_the_field_is_told_its_name(client: httpx.Client, encode: Encode) -> None:
    answer = client.post("/predict", files=form(encode("red"), name="image"))
    assert "'file'" in assert_problem(answer, 400, "missing_file")


def test_a_file_name_instead_of_a_file_is_recognised(client: httpx.Client) -> None:
    text = {"file": (None, "cat.jpg")}
    assert "mind the @" in assert_problem(client.post("/predict", files=text), 400, "missing_file")


def test_an_empty_file_is_told_so(client: httpx.Client) -> None:
    assert_problem(client.post("/predict", files=form(b"")), 400, "empty_file")
    assert_problem(client.post("/predict", content=b"", headers=BYTES), 400, "empty_file")


def test_several_files_are_refused_rather_than_ignored(client: httpx.Client, encode: Encode) -> None:
    files = [("file", ("a.png", encode("red"))), ("file", ("b.png", encode("blue")))]
    assert "2 files" in assert_problem(client.post("/predict", files=files), 400, "several_files")
    other = [("file", ("a.png", encode("red"))), ("other", ("b.png", encode("blue")))]
    assert_problem(client.post("/predict", files=other), 400, "several_files")


BOUNDARY = "multipart/form-data; boundary=X"


def part(
    *, head: str = 'Content-Disposition: form-data; name="file"; filename="a"', end: str = "--X--\r\n"
) -> bytes:
    return f"--X\r\n{head}\r\n\r\nhello\r\n{end}".encode()


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("multipart/form-data", part(), "malformed_body"),
        ("multipart/form-data; boundary=Y", part(), "malformed_body"),
        (BOUNDARY, b"hello", "malformed_body"),
        (BOUNDARY, b"", "malformed_body"),
        (BOUNDARY, part(end=""), "malformed_body"),
        (BOUNDARY, part(head="Content-Disposition: form-data"), "missing_file"),
        (BOUNDARY, part(head="X: " + "x" * 5000), "malformed_body"),
        (BOUNDARY, part(head="\r\n".join(f"X-{n}: 1" for n in range(20))), "malformed_body"),
        (BOUNDARY, b"--X--\r\n", "missing_file"),
        (BOUNDARY, part(end="") * 5000 + part(), "malformed_body"),
        (
            BOUNDARY,
            part(head='Content-Disposition: form-data; name="x"', end="") * 20 + part(),
            "malformed_body",
        ),
    ],
)
def test_a_form_that_is_none_is_refused(client: httpx.Client, kind: str, body: bytes, code: str) -> None:
    answer = client.post("/predict", content=body, headers={"Content-Type": kind})
    assert_problem(answer, 400, code)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json", "application/x-www-form-urlencoded", "", "video/mp4"]
)
def test_another_kind_of_body_is_told_which_kinds_are_taken(
    client: httpx.Client, encode: Encode, kind: str
) -> None:
    answer = client.post("/predict", content=encode("red"), headers={"Content-Type": kind})
    assert "multipart/form-data" in assert_problem(answer, 415, "unsupported_media_type")


def test_what_is_no_picture_is_told_which_formats_are(client: httpx.Client) -> None:
    answer = client.post("/predict", files=form(b"<svg/>", filename="cat.jpg"))
    assert "JPEG, PNG" in assert_problem(answer, 415, "unsupported_format")


def test_a_broken_picture_is_told_so(client: httpx.Client, encode: Encode) -> None:
    answer = client.post("/predict", files=form(encode("red", "JPEG")[:200]))
    assert_problem(answer, 422, "invalid_image")


def test_a_picture_with_too_many_pixels_is_told_how_many_may_be(client: httpx.Client, encode: Encode) -> None:
    answer = client.post("/predict", files=form(encode(Image.new("1", (20_001, 1)))))
    assert "20001 x 1" in assert_problem(answer, 413, "image_too_large")


def test_no_answer_repeats_what_was_sent(client: httpx.Client) -> None:
    marker = "MARKER"
    for answer in (
        client.post("/predict", content=marker, headers=BYTES),
        client.post("/predict", files=form(marker.encode(), name=marker, filename=marker)),
        client.post(f"/{marker}"),
        client.post("/predict", content=marker, headers={"Content-Type": marker}),
    ):
        assert marker not in answer.text


def test_a_body_that_is_announced_too_long_is_refused_before_it_is_sent(client: httpx.Client) -> None:
    for more in ({}, {"Expect": "100-continue"}):
        answer = send(client, BYTES | {"Content-Length": "20971521"} | more)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer.lower()
        problem = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (problem["code"], problem["status"]) == ("body_too_large", 413)
        assert "20,971,520" in problem["detail"]


def test_a_body_of_unknown_length_is_counted(
    settings: Settings, serving_with: ServingWith, encode: Encode
) -> None:
    with serving_with(settings.model_copy(update={"max_body_bytes": 5000}), FakeEngine()) as client:
        for body, kind in ((bytes(6000), BYTES["Content-Type"]), (part() + bytes(6000), BOUNDARY)):
            chunked = {"Content-Type": kind, "Transfer-Encoding": "chunked"}
            answer = send(client, chunked, b"%x\r\n%s\r\n" % (len(body), body))
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close" in answer.lower()
        assert client.post("/predict", files=form(encode("red"))).status_code == 200


def test_a_body_of_exactly_the_limit_is_taken(
    settings: Settings, serving_with: ServingWith, encode: Encode
) -> None:
    data = encode("red")
    with serving_with(settings.model_copy(update={"max_body_bytes": len(data)}), FakeEngine()) as client:
        assert client.post("/predict", content=data, headers=BYTES).status_code == 200
        too_long = client.post("/predict", content=data + b"x", headers=BYTES)
        assert_problem(too_long, 413, "body_too_large")


def test_a_body_that_does_not_arrive_is_given_up(settings: Settings, serving_with: ServingWith) -> None:
    with serving_with(settings.model_copy(update={"body_timeout_s": 0.1}), FakeEngine()) as client:
        answer = send(client, BYTES | {"Content-Length": "100"}, b"half")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert b"within 0.1 s" in answer


def test_an_answer_that_would_come_too_late_is_given_up_on_time(
    settings: Settings, serving_with: ServingWith, encode: Encode
) -> None:
    engine = FakeEngine()
    with serving_with(settings.model_copy(update={"request_timeout_s": 1.0}), engine) as client:
        engine.gate.clear()
        answer = client.post("/predict", files=form(encode("red")))
        engine.gate.set()
        assert "within 1 s" in assert_problem(answer, 504, "deadline_exceeded")
        assert client.post("/predict", files=form(encode("red"))).status_code == 200


def test_more_requests_than_may_wait_are_told_when_to_come_back(
    settings: Settings, serving_with: ServingWith, encode: Encode
) -> None:
    engine, data = FakeEngine(), encode("red")
    with serving_with(settings.model_copy(update={"queue_pictures": 1}), engine) as client:
        engine.gate.clear()
        with ThreadPoolExecutor(4) as pool:
            # One runs, one waits, so of four at least two find the queue full.
            asked = [pool.submit(client.post, "/predict", files=form(data)) for _ in range(4)]
            done, waiting = wait(asked, return_when="FIRST_COMPLETED", timeout=10)
            engine.gate.set()
        refused = done.pop().result()
        assert_problem(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert 200 in {answer.result().status_code for answer in waiting}


def test_a_failure_of_the_engine_is_a_500_without_its_innards(
    client: httpx.Client, engine: FakeEngine, encode: Encode
) -> None:
    engine.fails_on = lambda _: True
    assert_problem(client.post("/predict", files=form(encode("red"))), 500, "engine_failed")
    engine.fails_on = lambda _: False
    assert client.post("/predict", files=form(encode("red"))).status_code == 200


def test_a_client_that_leaves_half_way_harms_nobody(
    client: httpx.Client, encode: Encode, caplog: pytest.LogCaptureFixture
) -> None:
    for headers in (BYTES, {"Content-Type": BOUNDARY}):
        send(client, headers | {"Content-Length": "100"}, b"--X\r\n", leave=True)
    assert client.post("/predict", files=form(encode("red"))).status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


def send(client: httpx.Client, headers: dict[str, str], body: bytes = b"", *, leave: bool = False) -> bytes:
    """Sends a head and perhaps some body, and reads until the server closes, or leaves without reading."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=10) as connection:
        connection.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + body)
        return b"" if leave else b"".join(iter(lambda: connection.recv(65536), b""))
