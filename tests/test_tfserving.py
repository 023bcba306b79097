import base64
import gzip
import json
import re
import subprocess
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2 as httpx
import hypothesis
import numpy as np
import pytest
from conftest import Encode
from documented import Refusal, curl_lines, refusals, request_examples
from fakes import MODEL, FakeEngine, strongest_colour
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.api import tfserving_request
from app.api.json_document import Budget
from app.errors import MalformedBodyError, ProtocolError
from app.settings import Settings

ServingWith = Callable[[Settings, FakeEngine], AbstractContextManager[httpx.Client]]

SECTION = "TensorFlow Serving REST"
PREDICT = f"/v1/models/{MODEL}:predict"
CLASSIFY = f"/v1/models/{MODEL}:classify"
COLOURS = ("red", "lime", "blue")


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def random_pixels(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def ask(client: httpx.Client, document: Any, path: str = PREDICT) -> Any:
    """The answer to a request that is right."""
    answer = client.post(path, content=json.dumps(document))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def refused(answer: httpx.Response, status: int = 400) -> str:
    """The message of an error that has the protocol's form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    message: str = answer.json()["error"]
    assert message
    return message


# predict


def test_the_classic_curl_line_without_a_content_type_works(client: httpx.Client, encode: Encode) -> None:
    body = json.dumps({"instances": [b64(encode("red"))]})
    for kind in ("application/x-www-form-urlencoded", "application/json", "text/plain", "image/png"):
        answer = client.post(PREDICT, content=body, headers={"Content-Type": kind})
        assert np.argmax(answer.json()["predictions"][0]) == 0


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_files_are_answered_like_predict_answers_them(
    client: httpx.Client, encode: Encode, key: str, named: bool
) -> None:
    files = [encode(colour, form) for colour, form in zip(COLOURS, ("PNG", "JPEG", "WEBP"), strict=True)]
    values: Any = [b64(file) for file in files]
    if named:
        values = {"image_bytes": values} if key == "inputs" else [{"image_bytes": value} for value in values]
    answered = ask(client, {key: values})
    octets = {"Content-Type": "application/octet-stream"}
    native = [client.post("/predict", content=file, headers=octets).json() for file in files]
    expected = [list(one["probabilities"].values()) for one in native]
    assert answered == {{"instances": "predictions", "inputs": "outputs"}[key]: expected}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_pixels_go_to_the_model_as_they_are(client: httpx.Client, key: str, named: bool) -> None:
    images = random_pixels(3)
    values: Any = images.tolist()
    if named:
        values = {"images": values} if key == "inputs" else [{"images": value} for value in values]
    (rows,) = ask(client, {key: values}).values()
    assert np.array_equal(np.array(rows, np.float32), strongest_colour(images).probabilities)


def test_more_pictures_than_a_batch_holds_are_answered_in_order(
    client: httpx.Client, engine: FakeEngine
) -> None:
    images = random_pixels(21)
    rows = ask(client, {"instances": images.tolist()})["predictions"]
    assert np.array_equal(np.array(rows, np.float32), strongest_colour(images).probabilities)
    assert sum(engine.batches) == 21
    assert max(engine.batches) <= 8


def test_more_files_than_are_decoded_at_once_are_answered_in_order(
    client: httpx.Client, encode: Encode
) -> None:
    colours = [COLOURS[index % 3] for index in range(20)]
    rows = ask(client, {"instances": [b64(encode(colour)) for colour in colours]})["predictions"]
    assert [int(np.argmax(row)) for row in rows] == [index % 3 for index in range(20)]


def test_version_0_is_the_live_one_as_the_clients_of_openvino_call_it(
    client: httpx.Client, encode: Encode
) -> None:
    zero = f"/v1/models/{MODEL}/versions/0"
    rows = ask(client, {"inputs": {"image_bytes": [b64(encode("blue"))]}}, f"{zero}:predict")["outputs"]
    assert np.argmax(rows[0]) == 2
    assert client.get(zero).json() == client.get(f"/v1/models/{MODEL}").json()
    assert client.get(f"{zero}/metadata").json() == client.get(f"/v1/models/{MODEL}/metadata").json()


def test_several_outputs_come_as_objects(client: httpx.Client) -> None:
    images = random_pixels(2)
    expected = strongest_colour(images)
    scored: dict[str, Any] = {"signature_name": "scored"}
    row = ask(client, scored | {"instances": images.tolist()})["predictions"]
    assert [list(item) for item in row] == [["probabilities", "ood_score"]] * 2
    assert np.array_equal(np.array([item["ood_score"] for item in row], np.float32), expected.ood_score)
    column = ask(client, scored | {"inputs": images.tolist()})["outputs"]
    assert np.array_equal(np.array(column["probabilities"], np.float32), expected.probabilities)
    assert np.array_equal(np.array(column["ood_score"], np.float32), expected.ood_score)


def test_numbers_are_the_shortest_that_are_the_same_float32(client: httpx.Client) -> None:
    black = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    text = client.post(PREDICT, content=json.dumps({"instances": black.tolist()})).text
    assert re.findall(r"[\d.e-]+(?=[,\]])", text) == ["0.33333334"] * 3
    red = black.copy()
    red[..., 0] = 255
    one = client.post(PREDICT, content=json.dumps({"instances": red.tolist(), "signature_name": "scored"}))
    written = re.findall(r"\d[\d.e-]*", one.text)
    assert all(str(np.float32(number)) == number for number in written)


def test_a_signature_for_files_takes_nothing_else(client: httpx.Client, encode: Encode) -> None:
    encoded: dict[str, Any] = {"signature_name": "encoded"}
    assert ask(client, encoded | {"instances": [b64(encode("red"))]})
    pixels = {"instances": [{"images": random_pixels(1)[0].tolist()}]}
    message = refused(client.post(PREDICT, content=json.dumps(encoded | pixels)))
    assert "expecting an object with the key 'image_bytes' alone" in message
    bare = {"instances": random_pixels(1).tolist()}
    assert "base64" in refused(client.post(PREDICT, content=json.dumps(encoded | bare)))


def test_what_is_not_known_and_what_follows_is_ignored(client: httpx.Client, encode: Encode) -> None:
    document = json.dumps({"instances": [b64(encode("red"))], "other": [float("nan"), float("-inf"), None]})
    assert client.post(PREDICT, content=document + "} and more").status_code == 200


@pytest.mark.parametrize(
    "wrap", [lambda text: text.rstrip("="), lambda text: "\n".join(re.findall(".{1,76}", text))]
)
def test_base64_may_be_wrapped_and_lack_its_padding(
    client: httpx.Client, encode: Encode, wrap: Callable[[str], str]
) -> None:
    text = wrap(b64(encode("red"))["b64"])
    assert ask(client, {"instances": [{"b64": text}]})


def test_the_fixed_words_of_a_path_have_no_case_but_names_have(client: httpx.Client, encode: Encode) -> None:
    body = json.dumps({"instances": [b64(encode("red"))]})
    assert client.post(f"/V1/Models/{MODEL}/Versions/1:Predict", content=body).status_code == 200
    assert client.get(f"/v1/MODELS/{MODEL}/METADATA").status_code == 200
    upper = MODEL.upper()
    assert refused(client.post(f"/v1/models/{upper}:predict", content=body), 404).endswith(f"Latest({upper})")


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data, wbits=-15)),
        ("GZIP", gzip.compress),
        ("identity", bytes),
    ],
)
def test_a_body_may_be_compressed(
    client: httpx.Client, encode: Encode, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    body = pack(json.dumps({"instances": [b64(encode("blue"))]}).encode())
    answer = client.post(PREDICT, content=body, headers={"Content-Encoding": encoding})
    assert np.argmax(answer.json()["predictions"][0]) == 2


def test_a_body_may_not_expand_beyond_the_limit(client: httpx.Client) -> None:
    bomb = gzip.compress(bytes(20 * 1024 * 1024 + 1))
    assert len(bomb) < 30_000
    answer = client.post(PREDICT, content=bomb, headers={"Content-Encoding": "gzip"})
    assert "at most 20,971,520 bytes" in refused(answer, 413)


def test_a_broken_or_unknown_encoding_is_named(client: httpx.Client) -> None:
    whole = gzip.compress(b"{}")
    for body in (b"{}", b"", whole[:-3], whole + b"x"):
        answer = client.post(PREDICT, content=body, headers={"Content-Encoding": "gzip"})
        assert "gzip" in refused(answer)
    answer = client.post(PREDICT, content=b"{}", headers={"Content-Encoding": "br"})
    assert "'br'" in refused(answer, 415)


def test_a_long_answer_is_compressed_for_whoever_asks(client: httpx.Client) -> None:
    body = json.dumps({"instances": random_pixels(60).tolist()})
    asked = client.post(PREDICT, content=body, headers={"Accept-Encoding": "gzip"})
    plain = client.post(PREDICT, content=body, headers={"Accept-Encoding": "identity"})
    assert asked.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert asked.json() == plain.json()
    assert asked.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


# classify and regress


def test_classify_names_every_class_in_the_order_of_the_model(client: httpx.Client, encode: Encode) -> None:
    image = random_pixels(1)[0]
    examples = [
        {"image_bytes": b64(encode("lime"))},
        {"image_bytes": [b64(encode("blue"))]},
    ]
    results = ask(client, {"examples": examples}, CLASSIFY)["results"]
    assert [[label for label, _ in one] for one in results] == [["red", "green", "blue"]] * 2
    assert [max(one, key=lambda pair: pair[1])[0] for one in results] == ["green", "blue"]
    for value in (image.tolist(), image.ravel().tolist()):
        (one,) = ask(client, {"examples": [{"images": value}]}, CLASSIFY)["results"]
        expected = strongest_colour(image[np.newaxis]).probabilities[0]
        assert np.array_equal(np.array([score for _, score in one], np.float32), expected)


def test_examples_share_the_features_of_the_context(client: httpx.Client, encode: Encode) -> None:
    document = {"context": {"image_bytes": b64(encode("red"))}, "examples": [{}, {}]}
    first, second = ask(client, document, CLASSIFY)["results"]
    assert first == second
    assert first[0][1] > 0.9


# What is documented


@pytest.mark.parametrize("line", curl_lines(SECTION))
def test_the_documented_curl_lines_work(client: httpx.Client, line: str) -> None:
    run = subprocess.run(["bash", "-ec", line_for(client, line)], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "error" not in json.loads(run.stdout)


def line_for(client: httpx.Client, line: str) -> str:
    line = line.replace("curl ", "curl --silent --show-error --fail-with-body ")
    return line.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/")).replace(
        "resnet18-cifar10", MODEL
    )


@pytest.mark.parametrize("refusal", refusals(SECTION), ids=str)
def test_the_documented_refusals_are_what_is_answered(client: httpx.Client, refusal: Refusal) -> None:
    answer = client.request(refusal.method, refusal.path, content=refusal.body)
    assert refusal.message in refused(answer, refusal.status)


def test_openapi_shows_requests_that_work(client: httpx.Client) -> None:
    examples = list(request_examples(client.get("/openapi.json").json(), "/v1/"))
    assert len(examples) >= 5
    for path, document in examples:
        if "label" not in path:
            ask(client, document, path.format(name=MODEL, version=1))


# State


def test_metadata_states_the_signatures_in_the_form_of_the_protocol(client: httpx.Client) -> None:
    document = client.get(f"/v1/models/{MODEL}/versions/1/metadata").json()
    assert document["model_spec"] == {"name": MODEL, "signature_name": "", "version": "1"}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    images = signatures["serving_default"]["inputs"]["images"]
    assert images["dtype"] == "DT_UINT8"
    assert [one["size"] for one in images["tensor_shape"]["dim"]] == ["-1", "32", "32", "3"]
    assert images["tensor_shape"]["unknown_rank"] is False
    assert list(signatures["serving_default"]["outputs"]) == ["probabilities"]
    assert list(signatures["scored"]["outputs"]) == ["probabilities", "ood_score"]
    assert signatures["encoded"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert {one["method_name"] for one in signatures.values()} == {"tensorflow/serving/predict"}


def test_status_says_that_the_version_is_available(client: httpx.Client) -> None:
    fine = {"error_code": "OK", "error_message": ""}
    expected = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": fine}]}
    for path in (f"/v1/models/{MODEL}", f"/v1/models/{MODEL}/versions/1", f"/v1/models/{MODEL}/versions/01"):
        assert client.get(path).json() == expected


# Refusals


def test_the_guilty_picture_is_named(client: httpx.Client, encode: Encode) -> None:
    good = encode("red")
    instances = [b64(good)] * 12 + [b64(good[:30])]
    message = refused(client.post(PREDICT, content=json.dumps({"instances": instances})))
    assert message.startswith(
        "Failed to process element: 12 of 'instances' list. Error: The picture is broken"
    )


def test_files_and_pixels_do_not_mix(client: httpx.Client, encode: Encode) -> None:
    instances = [b64(encode("red")), random_pixels(1)[0].tolist()]
    message = refused(client.post(PREDICT, content=json.dumps({"instances": instances})))
    assert "mixes 'images' and 'image_bytes'" in message


def test_more_pictures_than_may_wait_are_refused_for_good(
    settings: Settings, serving_with: ServingWith
) -> None:
    with serving_with(settings.model_copy(update={"queue_pictures": 4}), FakeEngine()) as own:
        body = json.dumps({"instances": random_pixels(5).tolist()})
        assert "The request has 5 pictures; 1 to 4 are taken." in refused(own.post(PREDICT, content=body))
        many = json.dumps({"instances": random_pixels(12).tolist()})
        assert "Send fewer pictures per request" in refused(own.post(PREDICT, content=many))
        assert len(ask(own, {"instances": random_pixels(4).tolist()})["predictions"]) == 4


def test_a_failure_of_the_engine_is_a_500_in_the_form_of_the_protocol(
    client: httpx.Client, engine: FakeEngine
) -> None:
    engine.fails_on = lambda _: True
    refused(client.post(PREDICT, content=json.dumps({"instances": random_pixels(1).tolist()})), 500)


def test_an_answer_that_would_come_too_late_is_a_504(settings: Settings, serving_with: ServingWith) -> None:
    engine = FakeEngine()
    with serving_with(settings.model_copy(update={"request_timeout_s": 0.1}), engine) as own:
        engine.gate.clear()
        answer = own.post(PREDICT, content=json.dumps({"instances": random_pixels(1).tolist()}))
        engine.gate.set()
        assert "within 0.1 s" in refused(answer, 504)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b'{"instances": ["\xff"]}',
        b'{"instances": [' + b"9" * 5000 + b"]}",
        b'{"instances": [1e999]}',
        b'{"instances": [-Infinity]}',
        b'{"instances": ["\\ud800"]}',
        b'{"instances": [{"b64": "\\ud800"}]}',
        b'{"instances": [{"\\ud800": 1}]}',
        b'{"signature_name": "\\ud800", "instances": [1]}',
        b'{"signature_name": 1, "instances": [1]}',
        b"[" * 5000,
        b"[" * 5_000_000,
        b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"a":' * 5000,
        b'{"instances": [true]}',
        b'{"instances": [[], [[]]]}',
        b'{"inputs": {}}',
        b'{"inputs": {"images": [], "image_bytes": []}}',
        b'{"inputs": []}',
        b'{"instances": [{}]}',
        b'{"instances": [' + b"[]," * 400_000 + b"[]]}",
        b'{"instances": [' + b"0," * 2_000_000 + b"0]}",
        b"\xef\xbb\xbf{}",
        b"null",
        b"\x00",
    ],
    ids=lambda body: str(body[:24]),
)
@pytest.mark.parametrize("path", [PREDICT, CLASSIFY])
def test_hostile_json_is_refused(client: httpx.Client, path: str, body: bytes) -> None:
    assert len(refused(client.post(path, content=body))) < 1000


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)
known_keys = st.sampled_from(
    ["instances", "inputs", "examples", "context", "signature_name", "b64", "images", "image_bytes"]
)
documents = st.dictionaries(
    known_keys, anything | st.dictionaries(known_keys, anything, max_size=2), max_size=3
)


@pytest.mark.parametrize("parse", [tfserving_request.predict, tfserving_request.classify])
def test_whatever_is_read_is_refused(parse: Callable[..., object]) -> None:
    @given(documents)
    def check(document: Any) -> None:
        with pytest.raises((MalformedBodyError, ProtocolError)):
            parse(json.dumps(document).encode(), (32, 32, 3), Budget(1000, 1000))

    check()


@pytest.mark.parametrize("path", [PREDICT, CLASSIFY])
def test_no_json_whatsoever_is_more_than_a_bad_request(client: httpx.Client, path: str) -> None:
    @hypothesis.settings(max_examples=30)
    @given(documents)
    def check(document: Any) -> None:
        refused(client.post(path, content=json.dumps(document)))

    check()


def test_no_bytes_whatsoever_are_more_than_a_bad_request(client: httpx.Client) -> None:
    @hypothesis.settings(max_examples=30)
    @given(st.binary(max_size=200))
    def check(body: bytes) -> None:
        refused(client.post(PREDICT, content=body))

    check()
