import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import httpx2 as httpx
import hypothesis
import numpy as np
import pytest
from conftest import Encode
from fakes import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.api import batch
from app.settings import Settings

ServingWith = Callable[[Settings, FakeEngine], AbstractContextManager[httpx.Client]]
Answer = dict[str, Any]

COLOURS = {"red": "red", "green": "lime", "blue": "blue"}


def form(files: Sequence[bytes], name: str = "file") -> list[tuple[str, tuple[str, io.BytesIO]]]:
    return [(name, ("picture", io.BytesIO(data))) for data in files]


def post(client: httpx.Client, files: Sequence[bytes], query: str = "") -> httpx.Response:
    return client.post(batch.PATH + query, files=form(files))


def results(client: httpx.Client, files: Sequence[bytes], query: str = "") -> list[Answer]:
    answer = post(client, files, query)
    assert answer.status_code == 200, answer.text
    found: list[Answer] = answer.json()["results"]
    return found


def assert_problem(answer: httpx.Response, status: int, code: str) -> str:
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    return str(problem["detail"])


# Answers


def test_each_file_gets_what_predict_answers_and_its_place(client: httpx.Client, encode: Encode) -> None:
    files = [
        encode("red", "JPEG"),
        encode("blue"),
        encode(Image.new("RGBA", (9, 700), (0, 9, 250, 3)), "WEBP"),
    ]
    alone = [client.post("/predict", files=form([data])).json() for data in files]
    assert results(client, files) == [{"index": index} | answer for index, answer in enumerate(alone)]


def test_a_single_file_is_a_batch_too(client: httpx.Client, encode: Encode) -> None:
    answer = post(client, [encode("red")]).json()
    assert (answer["succeeded"], answer["failed"], len(answer["results"])) == (1, 0, 1)


@hypothesis.settings(max_examples=10)
@given(names=st.lists(st.sampled_from(list(COLOURS)), min_size=1, max_size=20))
def test_answers_stand_in_the_order_of_the_files(
    shared_service: tuple[httpx.Client, FakeEngine], encode: Encode, names: list[str]
) -> None:
    answers = results(shared_service[0], [encode(COLOURS[name]) for name in names])
    assert [answer["label"] for answer in answers] == names
    assert [answer["index"] for answer in answers] == list(range(len(names)))


def test_pictures_of_one_request_share_batches_of_the_engine(
    client: httpx.Client, engine: FakeEngine, encode: Encode
) -> None:
    engine.gate.clear()
    opening = threading.Timer(0.3, engine.gate.set)
    opening.start()
    results(client, [encode("red")] * 17)
    opening.join()
    assert sum(engine.batches) == 17
    assert max(engine.batches) > 1


def test_the_names_of_files_mean_nothing_and_are_not_repeated(client: httpx.Client, encode: Encode) -> None:
    names = ["s3cret-token.jpg", "../../etc/passwd", '"><script>', "a\r\nX-Evil: 1.png"]
    files = [("file", (name, encode("red"))) for name in names]
    answer = client.post(batch.PATH, files=files)
    assert [item["label"] for item in answer.json()["results"]] == ["red"] * 4
    assert not any(word in answer.text for word in ("s3cret", "passwd", "script", "Evil"))
    assert "x-evil" not in answer.headers


# One bad picture among good ones


@pytest.mark.parametrize(
    ("bad", "status", "code"),
    [
        (b"", 400, "empty_file"),
        (b"<svg/>", 415, "unsupported_format"),
        ("broken", 422, "invalid_image"),
        (Image.new("1", (20_001, 1)), 413, "image_too_large"),
    ],
    ids=["empty", "no picture", "broken", "too large"],
)
def test_a_bad_picture_has_its_own_error_in_its_place(
    client: httpx.Client, encode: Encode, bad: bytes | str | Image.Image, status: int, code: str
) -> None:
    data = bad if isinstance(bad, bytes) else encode("red", "JPEG")[:200] if bad == "broken" else encode(bad)
    answer = post(client, [encode("red"), data, encode("blue")])
    assert answer.status_code == 200
    assert (answer.json()["succeeded"], answer.json()["failed"]) == (2, 1)
    first, second, third = answer.json()["results"]
    assert (first["label"], third["label"], third["index"]) == ("red", "blue", 2)
    assert list(second) == ["index", "error"]
    problem = second["error"]
    assert (second["index"], problem["status"], problem["code"]) == (1, status, code)
    assert problem["instance"] == answer.headers["x-request-id"]
    alone = client.post("/predict", files=form([data])).json()
    assert {key: problem[key] for key in ("type", "title")} == {key: alone[key] for key in ("type", "title")}
    assert problem["detail"]


def test_a_request_of_bad_pictures_only_says_that_none_succeeded(client: httpx.Client) -> None:
    answer = post(client, [b"", b"<svg/>"]).json()
    assert (answer["succeeded"], answer["failed"]) == (0, 2)
    assert [item["error"]["code"] for item in answer["results"]] == ["empty_file", "unsupported_format"]


def test_a_picture_on_which_the_engine_fails_harms_no_other(
    client: httpx.Client, engine: FakeEngine, encode: Encode
) -> None:
    engine.fails_on = lambda pixels: bool(pixels[0, 0, 2] > 200)
    first, second, third = results(client, [encode("red"), encode("blue"), encode("lime")])
    assert (first["label"], third["label"]) == ("red", "green")
    assert (second["error"]["status"], second["error"]["code"]) == (500, "engine_failed")


def test_each_file_may_be_as_long_as_a_request_with_one(
    settings: Settings, serving_with: ServingWith, encode: Encode
) -> None:
    small, noise = encode("red"), np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    large = encode(Image.fromarray(noise))
    limits = {"max_body_bytes": len(large) - 1, "max_upload_bytes": 10 * len(large)}
    with serving_with(settings.model_copy(update=limits), FakeEngine()) as client:
        first, second = results(client, [small, large])
    assert first["label"] == "red"
    assert (second["error"]["status"], second["error"]["code"]) == (413, "body_too_large")
    assert f"{len(large):,} bytes" in second["error"]["detail"]
    assert f"{len(large) - 1:,}" in second["error"]["detail"]


# Requests that are refused whole


@pytest.mark.parametrize("received", [4, 15, 200])
def test_more_files_than_allowed_are_counted_and_refused(
    settings: Settings, serving_with: ServingWith, encode: Encode, received: int
) -> None:
    with serving_with(settings.model_copy(update={"max_upload_files": 3}), FakeEngine()) as client:
        assert len(results(client, [encode("red")] * 3)) == 3
        answer = post(client, [encode("red")] * received)
        if received > 100:
            assert_problem(answer, 400, "malformed_body")
        else:
            detail = assert_problem(answer, 413, "too_many_files")
            assert f"{received} files" in detail
            assert (answer.json()["limit"], answer.json()["received"]) == (3, received)
            assert "at most 3" in detail


def test_the_whole_body_has_a_limit_of_its_own(settings: Settings, serving_with: ServingWith) -> None:
    limits = {"max_body_bytes": 4000, "max_upload_bytes": 9000}
    with serving_with(settings.model_copy(update=limits), FakeEngine()) as client:
        assert results(client, [b"x" * 3000] * 2)[0]["error"]["code"] == "unsupported_format"
        detail = assert_problem(post(client, [b"x" * 3000] * 3), 413, "body_too_large")
        assert "9,000" in detail
        assert_problem(client.post("/predict", files=form([b"x" * 4001])), 413, "body_too_large")

        def chunks() -> Iterator[bytes]:
            yield b'--X\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            yield from [b"x" * 3000] * 4

        kind = {"Content-Type": "multipart/form-data; boundary=X"}
        streamed = client.post(batch.PATH, content=chunks(), headers=kind)
        assert_problem(streamed, 413, "body_too_large")


@pytest.mark.parametrize("name", ["files", "file[]", "image"])
def test_files_in_fields_of_another_name_are_refused_rather_than_ignored(
    client: httpx.Client, encode: Encode, name: str
) -> None:
    both = form([encode("red")]) + form([encode("blue")], name)
    detail = assert_problem(client.post(batch.PATH, files=both), 400, "missing_file")
    assert "1 files in fields called 'file' and 1 in others" in detail


def test_a_file_name_instead_of_a_file_is_recognised(client: httpx.Client, encode: Encode) -> None:
    mixed: list[Any] = [*form([encode("red")]), ("file", (None, "dog.jpg"))]
    assert "mind the @" in assert_problem(client.post(batch.PATH, files=mixed), 400, "missing_file")


def test_a_body_that_is_no_form_is_told_how_to_send_several(client: httpx.Client, encode: Encode) -> None:
    answer = client.post(batch.PATH, content=encode("red"), headers={"Content-Type": "image/png"})
    assert "-F file=@1.jpg -F file=@2.jpg" in assert_problem(answer, 415, "unsupported_media_type")


def test_a_form_without_files_is_refused(client: httpx.Client) -> None:
    assert_problem(client.post(batch.PATH, files={"comment": (None, "hello")}), 400, "missing_file")


def test_more_pictures_than_may_wait_are_taken_when_nothing_else_waits(
    settings: Settings, serving_with: ServingWith, encode: Encode
) -> None:
    """Or to come back, as a 503 says, would never help."""
    with serving_with(settings.model_copy(update={"queue_pictures": 4}), FakeEngine()) as client:
        assert len(results(client, [encode("red")] * 40)) == 40


def test_an_answer_that_would_come_too_late_is_given_up_whole(
    settings: Settings, serving_with: ServingWith, encode: Encode
) -> None:
    engine = FakeEngine()
    with serving_with(settings.model_copy(update={"request_timeout_s": 2.0}), engine) as client:
        engine.gate.clear()
        answer = post(client, [encode("red")] * 3)
        engine.gate.set()
        assert_problem(answer, 504, "deadline_exceeded")
        assert len(results(client, [encode("red")] * 3)) == 3


# top_k


@hypothesis.settings(max_examples=10)
@given(colour=st.tuples(*[st.integers(0, 255)] * 3), wanted=st.integers(1, 3))
def test_the_most_probable_classes_are_sorted_on_request(
    shared_service: tuple[httpx.Client, FakeEngine],
    encode: Encode,
    colour: tuple[int, int, int],
    wanted: int,
) -> None:
    client = shared_service[0]
    data = encode(Image.new("RGB", (32, 32), colour))
    plain = client.post("/predict", files=form([data])).json()
    asked = client.post(f"/predict?top_k={wanted}", files=form([data])).json()
    top = asked.pop("top")
    assert asked == plain
    ids = {name: index for index, name in enumerate(plain["probabilities"])}
    ranking = sorted(plain["probabilities"].items(), key=lambda item: (-item[1], ids[item[0]]))
    assert top == [
        {"label": name, "class_id": ids[name], "probability": probability}
        for name, probability in ranking[:wanted]
    ]
    assert (top[0]["class_id"], top[0]["probability"]) == (plain["class_id"], plain["probability"])
    (together,) = results(client, [data], f"?top_k={wanted}")
    assert together == {"index": 0} | plain | {"top": top}


@pytest.mark.parametrize("path", ["/predict", batch.PATH])
@pytest.mark.parametrize("value", ["0", "4", "-1", "1.5", "", "ten", "1e1", "٣", "9" * 5000, "NaN", "+2"])
def test_another_number_of_classes_is_told_the_range(
    client: httpx.Client, encode: Encode, path: str, value: str
) -> None:
    answer = client.post(path, params={"top_k": value}, files=form([encode("red")]))
    detail = assert_problem(answer, 400, "invalid_parameter")
    assert "from 1 to 3" in detail
    assert len(detail) < 200


def test_the_shape_of_every_picture_is_treated_as_asked(client: httpx.Client, encode: Encode) -> None:
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    squashed, cropped = (
        results(client, [encode(wide)], f"?fit={fit}")[0]["label"] for fit in ("squash", "crop")
    )
    assert (squashed, cropped) == ("red", "blue")
    assert_problem(post(client, [encode("red")], "?fit=stretch"), 400, "invalid_parameter")
