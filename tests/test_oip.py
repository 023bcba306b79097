import asyncio
import base64
import gzip
import json
import struct
import subprocess
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import httpx2 as httpx
import hypothesis
import numpy as np
import pytest
import tritonclient.http as triton
from conftest import Encode
from documented import Refusal, curl_lines, refusals, request_examples
from fakes import CARD, MODEL, FakeEngine, publish_fake, strongest_colour
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tritonclient.utils import InferenceServerException

from app.api import oip_binary, pictures
from app.api.oip_request import Contract
from app.errors import MalformedBodyError, ProtocolError
from app.main import create_app
from app.manifest import Manifest
from app.repository import Repository
from app.settings import Settings

ServingWith = Callable[[Settings, FakeEngine], AbstractContextManager[httpx.Client]]

SECTION = "Open Inference Protocol v2"
INFER = f"/v2/models/{MODEL}/infer"
LENGTH = "Inference-Header-Content-Length"
COLOURS = ("red", "lime", "blue")


def random_pixels(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def pixels_input(images: NDArray[np.uint8], **changes: Any) -> dict[str, Any]:
    shape = list(images.shape)
    return {"name": "images", "datatype": "UINT8", "shape": shape, "data": images.tolist()} | changes


def files_input(*files: bytes, **changes: Any) -> dict[str, Any]:
    data = [base64.b64encode(file).decode() for file in files]
    return {"name": "image_bytes", "datatype": "BYTES", "shape": [len(files)], "data": data} | changes


def ask(client: httpx.Client, *inputs: dict[str, Any], **document: Any) -> Any:
    """The answer to a request that is right, in JSON."""
    answer = client.post(INFER, content=json.dumps({"inputs": inputs} | document))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert LENGTH.lower() not in answer.headers
    return answer.json()


def values(answer: Any, name: str = "probabilities") -> NDArray[np.float32]:
    (output,) = (output for output in answer["outputs"] if output["name"] == name)
    assert output["datatype"] == "FP32"
    return np.array(output["data"], np.float32).reshape(output["shape"])


def refused(answer: httpx.Response, status: int = 400) -> str:
    """The message of an error that has the protocol's form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    message: str = answer.json()["error"]
    assert message
    return message


def split(answer: httpx.Response) -> tuple[Any, bytes]:
    """The JSON and the tensors of an answer in binary form."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[LENGTH])
    return json.loads(answer.content[:length]), answer.content[length:]


@pytest.fixture
def peer(client: httpx.Client) -> Iterator[triton.InferenceServerClient]:
    """The client that Triton's users have."""
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as peer:
        yield peer


# The client that others wrote


def triton_input(array: NDArray[Any], name: str, kind: str, *, binary: bool = True) -> triton.InferInput:
    given = triton.InferInput(name, list(array.shape), kind)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("outputs", [None, True, False])
def test_tritonclient_sends_pixels(
    peer: triton.InferenceServerClient, binary_in: bool, outputs: bool | None
) -> None:
    images = random_pixels(11)
    wanted = outputs if outputs is None else [triton.InferRequestedOutput("probabilities", outputs)]
    given = triton_input(images, "images", "UINT8", binary=binary_in)
    result = peer.infer(MODEL, [given], request_id="abc", outputs=wanted)
    assert np.array_equal(result.as_numpy("probabilities"), strongest_colour(images).probabilities)
    assert (result.as_numpy("ood_score") is None) == (outputs is not None)
    assert result.get_response()["id"] == "abc"


def test_tritonclient_sends_files(peer: triton.InferenceServerClient, encode: Encode) -> None:
    files = np.array([encode(colour) for colour in COLOURS], dtype=object)
    result = peer.infer(MODEL, [triton_input(files, "image_bytes", "BYTES")], model_version="1")
    assert result.as_numpy("probabilities").argmax(axis=1).tolist() == [0, 1, 2]
    text = np.array([base64.b64encode(file).decode() for file in files], dtype=object)
    same = peer.infer(MODEL, [triton_input(text, "image_bytes", "BYTES", binary=False)])
    assert np.array_equal(same.as_numpy("probabilities"), result.as_numpy("probabilities"))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclient_compresses_both_ways(peer: triton.InferenceServerClient, algorithm: str) -> None:
    images = random_pixels(100)
    result = peer.infer(
        MODEL,
        [triton_input(images, "images", "UINT8")],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert np.array_equal(result.as_numpy("probabilities"), strongest_colour(images).probabilities)


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_classes(peer: triton.InferenceServerClient, encode: Encode, binary: bool) -> None:
    files = np.array([encode("lime"), encode("blue")], dtype=object)
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
    given = triton_input(files, "image_bytes", "BYTES")
    found = peer.infer(MODEL, [given], outputs=[wanted]).as_numpy("probabilities")
    texts = [text.decode() if isinstance(text, bytes) else text for text in found[:, 0]]
    assert found.shape == (2, 2)
    assert [text.split(":")[1:] for text in texts] == [["1", "green"], ["2", "blue"]]
    assert 0.9 < float(texts[0].split(":")[0]) < 1


def test_tritonclient_finds_out_about_server_and_model(peer: triton.InferenceServerClient) -> None:
    assert peer.is_server_live()
    assert peer.is_server_ready()
    assert peer.is_model_ready(MODEL)
    assert peer.is_model_ready(MODEL, "1")
    assert not peer.is_model_ready(MODEL, "2")
    assert not peer.is_model_ready("nobody")
    assert peer.get_server_metadata()["extensions"] == ["binary_tensor_data", "classification"]
    metadata = peer.get_model_metadata(MODEL)
    assert metadata["versions"] == ["1"]
    assert [
        (one["name"], one["datatype"], one["shape"]) for one in metadata["inputs"] + metadata["outputs"]
    ] == [
        ("image_bytes", "BYTES", [-1]),
        ("images", "UINT8", [-1, 32, 32, 3]),
        ("probabilities", "FP32", [-1, 3]),
        ("ood_score", "FP32", [-1]),
    ]
    assert "either image_bytes" in metadata["parameters"]["inputs"]
    assert peer.get_model_repository_index() == [
        {"name": MODEL, "version": "1", "state": "READY", "reason": ""}
    ]


def test_tritonclient_shows_our_errors(peer: triton.InferenceServerClient) -> None:
    given = triton_input(random_pixels(1), "images", "UINT8")
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'nobody'") as unknown:
        peer.infer("nobody", [given])
    assert unknown.value.status() == "404"
    with pytest.raises(InferenceServerException, match="model_repository") as unsupported:
        peer.load_model(MODEL)
    assert unsupported.value.status() == "501"


# Requests and answers


def test_all_ways_in_give_the_same(client: httpx.Client, encode: Encode) -> None:
    file = encode("lime", "JPEG")
    octets = {"Content-Type": "application/octet-stream"}
    native = client.post("/predict", content=file, headers=octets).json()["probabilities"].values()
    v1 = client.post(
        f"/v1/models/{MODEL}:predict",
        content=json.dumps({"instances": [{"b64": base64.b64encode(file).decode()}]}),
    ).json()["predictions"][0]
    v2 = ask(client, files_input(file))["outputs"][0]["data"]
    raw, tail = split(client.post(INFER, content=file, headers={LENGTH: "0"}))
    assert list(native) == v1 == v2
    assert np.array_equal(np.frombuffer(tail, "<f4", 3), np.array(v2, np.float32))
    assert [output["shape"] for output in raw["outputs"]] == [[1, 3], [1]]


@pytest.mark.parametrize("flat", [True, False])
def test_data_may_be_nested_or_flat(client: httpx.Client, flat: bool) -> None:
    images = random_pixels(2)
    data = images.ravel().tolist() if flat else images.tolist()
    answer = ask(client, pixels_input(images, data=data))
    assert np.array_equal(values(answer), strongest_colour(images).probabilities)
    assert np.array_equal(values(answer, "ood_score"), strongest_colour(images).ood_score)
    assert (answer["model_name"], answer["model_version"]) == (MODEL, "1")
    assert "id" not in answer


def test_only_the_outputs_that_are_asked_for_come_and_in_that_order(client: httpx.Client) -> None:
    given = pixels_input(random_pixels(1))
    for names in (["ood_score"], ["probabilities"], ["ood_score", "probabilities"]):
        answer = ask(client, given, outputs=[{"name": name} for name in names])
        assert [output["name"] for output in answer["outputs"]] == names
    assert len(ask(client, given, outputs=[])["outputs"]) == 2


@pytest.mark.parametrize("name", ["", "a", "é", "\ud800", "x" * 5000])
def test_the_id_comes_back(client: httpx.Client, name: str) -> None:
    assert ask(client, pixels_input(random_pixels(1)), id=name)["id"] == name


def test_unknown_parameters_are_ignored(client: httpx.Client) -> None:
    given = pixels_input(random_pixels(1), parameters={"anything": 1})
    answer = ask(client, given, parameters={"priority": 3, "other": "x"}, more=[[{}]])
    assert len(answer["outputs"]) == 2


def test_files_may_be_cropped(client: httpx.Client, encode: Encode) -> None:
    flag = Image.new("RGB", (96, 32), "blue")
    flag.paste("red", (32, 0, 64, 32))
    for fit, colour in (("squash", 2), ("crop", 0)):
        answer = ask(client, files_input(encode(flag)), parameters={"fit": fit})
        assert values(answer).argmax() == colour


def test_an_output_may_differ_from_what_the_request_says(client: httpx.Client) -> None:
    images = random_pixels(2)
    document = {
        "inputs": [pixels_input(images)],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "ood_score"}, {"name": "probabilities", "parameters": {"binary_data": False}}],
    }
    described, tail = split(client.post(INFER, content=json.dumps(document)))
    assert described["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert "data" not in described["outputs"][0]
    assert np.array_equal(np.frombuffer(tail, "<f4"), strongest_colour(images).ood_score)
    assert np.array_equal(
        values({"outputs": described["outputs"][1:]}), strongest_colour(images).probabilities
    )


def test_classes_come_best_first_with_six_decimals(client: httpx.Client, encode: Encode) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": 9}}]
    answer = ask(client, files_input(encode("blue"), encode("black")), outputs=wanted)
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 3])
    assert output["data"] == [
        "0.999909:2:blue",
        "0.000045:0:red",
        "0.000045:1:green",
        "0.333333:0:red",
        "0.333333:1:green",
        "0.333333:2:blue",
    ]


def test_binary_files_may_be_base64_if_they_say_so(client: httpx.Client, encode: Encode) -> None:
    data = oip_binary.pack([base64.b64encode(encode("blue"))])
    given = files_input(encode("blue"), parameters={"content_type": "base64", "binary_data_size": len(data)})
    del given["data"]
    head = json.dumps({"inputs": [given]}).encode()
    answer = client.post(INFER, content=head + data, headers={LENGTH: str(len(head))})
    assert values(answer.json()).argmax() == 2


# What is documented


@pytest.mark.parametrize("line", curl_lines(SECTION))
def test_the_documented_curl_lines_work(client: httpx.Client, line: str) -> None:
    line = line.replace("curl ", "curl --silent --show-error --fail-with-body ")
    line = line.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/"))
    line = line.replace("resnet18-cifar10", MODEL)
    run = subprocess.run(["bash", "-ec", line], capture_output=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith((b"{", b"["))


@pytest.mark.parametrize("refusal", refusals(SECTION), ids=str)
def test_the_documented_refusals_are_what_is_answered(client: httpx.Client, refusal: Refusal) -> None:
    answer = client.request(refusal.method, refusal.path, content=refusal.body)
    assert refusal.message in refused(answer, refusal.status)


def test_openapi_shows_requests_that_work(client: httpx.Client) -> None:
    examples = list(request_examples(client.get("/openapi.json").json(), "/v2/"))
    assert len(examples) >= 5
    for path, document in examples:
        answer = client.post(path.format(name=MODEL, version=1), content=json.dumps(document))
        assert answer.status_code == 200, answer.text


def test_both_spellings_of_the_root_answer_without_a_redirect(client: httpx.Client) -> None:
    for path in ("/v2", "/v2/"):
        answer = client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.json()["name"]) == (200, "image-classification-service")


def test_the_index_lists_versions_that_do_not_answer_too(
    settings: Settings, repository: Repository, serving_with: ServingWith
) -> None:
    publish_fake(repository, CARD)
    with serving_with(settings.model_copy(update={"model_version": 1}), FakeEngine()) as own:
        both = own.post("/v2/repository/index").json()
        assert [(one["version"], one["state"]) for one in both] == [("1", "READY"), ("2", "UNAVAILABLE")]
        ready = own.post("/v2/repository/index", content=b'{"ready": true}').json()
        assert [one["version"] for one in ready] == ["1"]


# Refusals


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x", "Unable to parse Inference-Header-Content-Length, got: x"),
        ("", "Unable to parse Inference-Header-Content-Length, got: "),
        ("1.5", "Unable to parse"),
        ("²", "Unable to parse"),
        ("9" * 30, "Unable to parse"),
        ("-1", "inference header size should be in range (0, 2), got: -1"),
        ("3", "inference header size should be in range (0, 2), got: 3"),
    ],
)
def test_a_length_that_cannot_be_is_refused(client: httpx.Client, value: str, message: str) -> None:
    headers = {LENGTH.encode(): value.encode("latin-1")}
    assert message in refused(client.post(INFER, content=b"{}", headers=headers))


def binary_request(shape: list[int], stated: int, sent: int) -> tuple[bytes, dict[str, str]]:
    given = {
        "name": "images",
        "datatype": "UINT8",
        "shape": shape,
        "parameters": {"binary_data_size": stated},
    }
    head = json.dumps({"inputs": [given]}).encode()
    return head + bytes(sent), {LENGTH: str(len(head))}


def test_binary_data_must_be_as_long_as_it_says_and_its_shape_takes(client: httpx.Client) -> None:
    for stated, sent, message in (
        (3072, 3000, "unexpected size for input 'images', expecting 72 additional bytes"),
        (3072, 3073, "unexpected additional input data"),
        (3000, 3000, "has 3000 elements; its shape [1, 32, 32, 3] takes 3072"),
    ):
        body, headers = binary_request([1, 32, 32, 3], stated, sent)
        assert message in refused(client.post(INFER, content=body, headers=headers))


@given(shape=st.lists(st.integers(-1, 4), max_size=5), stated=st.integers(-1, 20), sent=st.integers(0, 20))
def test_shape_and_data_that_do_not_fit_never_get_through(shape: list[int], stated: int, sent: int) -> None:
    manifest = Manifest.model_construct(**dict(CARD), name=MODEL, version=1)
    body, headers = binary_request(shape, stated, sent)
    with pytest.raises(ProtocolError):
        Contract(manifest, 4).parse(body, headers[LENGTH])


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_packed_bytes_are_unpacked_to_the_same(elements: list[bytes]) -> None:
    packed = oip_binary.pack(elements)
    assert len(packed) == sum(map(len, elements)) + 4 * len(elements)
    assert oip_binary.unpack(memoryview(packed), len(elements)) == elements


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5), st.data())
def test_damaged_bytes_are_refused(elements: list[bytes], data: st.DataObject) -> None:
    packed = oip_binary.pack(elements)
    cut = data.draw(st.integers(0, len(packed) - 1))
    for damaged in (packed[:cut], packed + b"\0", struct.pack("<I", 2**32 - 1) + packed):
        with pytest.raises(ProtocolError):
            oip_binary.unpack(memoryview(damaged), len(elements))


def test_an_absurd_count_of_elements_allocates_nothing(client: httpx.Client) -> None:
    given = files_input(shape=[10**15], parameters={"binary_data_size": 0})
    del given["data"]
    head = json.dumps({"inputs": [given]}).encode()
    answer = client.post(INFER, content=head, headers={LENGTH: str(len(head))})
    assert "1 to 256 are taken" in refused(answer)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_a_body_may_not_expand_beyond_the_limit(
    client: httpx.Client, compress: Callable[[bytes], bytes], request: pytest.FixtureRequest
) -> None:
    encoding = request.node.callspec.id
    bomb = compress(bytes(20 * 1024 * 1024 + 1))
    refused(client.post(INFER, content=bomb, headers={"Content-Encoding": encoding}), 413)


def test_a_body_that_is_too_long_is_refused_in_the_form_of_the_protocol(client: httpx.Client) -> None:
    assert "at most 20,971,520 bytes" in refused(client.post(INFER, content=bytes(20_971_521)), 413)


def test_what_carries_no_pictures_may_be_no_larger_than_it_needs_to_be(client: httpx.Client) -> None:
    for path in ("index", f"models/{MODEL}/load", f"models/{MODEL}/unload"):
        announced = client.post(f"/v2/repository/{path}", content=bytes(65_537))
        assert "at most 65,536 bytes" in refused(announced, 413)
    streamed = client.post("/v2/repository/index", content=iter([bytes(65_537)]))
    assert "at most 65,536 bytes" in refused(streamed, 413)


def test_a_failure_of_the_engine_is_a_500(client: httpx.Client, engine: FakeEngine) -> None:
    engine.fails_on = lambda _: True
    body = json.dumps({"inputs": [pixels_input(random_pixels(1))]})
    refused(client.post(INFER, content=body), 500)


def test_a_fault_of_ours_keeps_the_form_and_its_secrets(client: httpx.Client, engine: FakeEngine) -> None:
    def fault(_: NDArray[np.uint8]) -> bool:
        raise ZeroDivisionError("a secret")

    engine.fails_on = fault
    body = json.dumps({"inputs": [pixels_input(random_pixels(1))]})
    assert "secret" not in refused(client.post(INFER, content=body), 500)


def test_an_overload_is_a_503_that_says_when_to_come_back(
    settings: Settings, serving_with: ServingWith
) -> None:
    engine = FakeEngine()
    body = json.dumps({"inputs": [pixels_input(random_pixels(4))]})
    with serving_with(settings.model_copy(update={"queue_pictures": 4}), engine) as own:
        engine.gate.clear()
        with ThreadPoolExecutor(4) as pool:
            # One runs, one waits, so of four at least two find the queue full.
            asked = [pool.submit(own.post, INFER, content=body) for _ in range(4)]
            done, waiting = wait(asked, return_when="FIRST_COMPLETED", timeout=10)
            engine.gate.set()
        answer = done.pop().result()
        assert "at most 4 may" in refused(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        assert any(one.result().status_code == 200 for one in waiting)


def test_an_answer_that_would_come_too_late_is_a_504(settings: Settings, serving_with: ServingWith) -> None:
    engine = FakeEngine()
    with serving_with(settings.model_copy(update={"request_timeout_s": 0.1}), engine) as own:
        engine.gate.clear()
        answer = own.post(INFER, content=json.dumps({"inputs": [pixels_input(random_pixels(1))]}))
        engine.gate.set()
        assert "within 0.1 s" in refused(answer, 504)


# Before and after


@asynccontextmanager
async def started(settings: Settings, engine: FakeEngine) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """An application that has started, but not necessarily loaded its model, and a client of it."""
    app = create_app(settings, lambda *_: engine)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as own,
    ):
        try:
            yield app, own
        finally:
            engine.gate.set()


@pytest.mark.anyio
async def test_a_service_without_a_model_yet_is_alive_and_says_that_it_is_not_ready(
    settings: Settings,
) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    async with started(settings, engine) as (_, own):
        assert (await own.get("/v2/health/live")).status_code == 200
        for path in ("/v2/health/ready", f"/v2/models/{MODEL}/ready", f"/v2/models/{MODEL}"):
            assert "is being loaded" in refused(await own.get(path), 503)
        for path in (INFER, f"/v1/models/{MODEL}:predict", f"/v1/models/{MODEL}/versions/7:classify"):
            assert "is being loaded" in refused(await own.post(path, content=b"{}"), 503)
        refused(await own.get("/v2/models/nobody/ready"), 404)
        (state,) = (await own.get(f"/v1/models/{MODEL}")).json()["model_version_status"]
        assert (state["version"], state["state"]) == ("1", "LOADING")
        assert (await own.post("/v2/repository/index")).json()[0]["state"] == "LOADING"


@pytest.mark.anyio
async def test_a_service_that_shuts_down_is_not_ready_but_answers(settings: Settings) -> None:
    async with started(settings, FakeEngine()) as (app, own):
        while (await own.get("/v2/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        app.state.serving.drain()
        for path in ("/v2/health/ready", f"/v2/models/{MODEL}/ready"):
            assert "shutting down" in refused(await own.get(path), 503)
        (state,) = (await own.get(f"/v1/models/{MODEL}")).json()["model_version_status"]
        assert state["state"] == "UNLOADING"
        body = json.dumps({"inputs": [pixels_input(random_pixels(1))]})
        assert (await own.post(INFER, content=body)).status_code == 200


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["images", "image_bytes"]) | anything,
        "datatype": st.sampled_from(["UINT8", "BYTES"]) | anything,
        "shape": st.sampled_from([[1], [1, 32, 32, 3], [0], [-1]]) | anything,
        "data": st.sampled_from([[], ["AAAA"], [[[]]], [0] * 3072]) | anything,
        "parameters": st.sampled_from([{"binary_data_size": 4}, {"content_type": "base64"}]) | anything,
    },
)
documents = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=2) | anything},
    optional={
        "id": anything,
        "parameters": anything,
        "outputs": st.lists(st.fixed_dictionaries({"name": anything, "parameters": anything}), max_size=2),
    },
)


@given(documents, st.none() | st.integers(-1, 200))
def test_whatever_is_read_is_refused_or_makes_pictures(document: Any, length: int | None) -> None:
    manifest = Manifest.model_construct(**dict(CARD), name=MODEL, version=1)
    header = None if length is None else str(length)
    try:
        read = Contract(manifest, 4).parse(json.dumps(document).encode(), header)
    except (MalformedBodyError, ProtocolError):
        return
    assert 1 <= pictures.count(read.pictures) <= 4


def test_no_json_whatsoever_is_a_fault(client: httpx.Client) -> None:
    @hypothesis.settings(max_examples=30)
    @given(documents, st.none() | st.integers(-1, 200))
    def check(document: Any, length: int | None) -> None:
        headers = {} if length is None else {LENGTH: str(length)}
        answer = client.post(INFER, content=json.dumps(document), headers=headers)
        if answer.status_code != 200:
            refused(answer)

    check()


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"[" * 5_000_000,
        b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"inputs": [{"name": "\\ud800"}]}',
        b'{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1e999, 32, 32, 3], "data": []}]}',
        b'{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [true, 32, 32, 3], "data": []}]}',
        b'{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [' + b"9" * 5000 + b", 32, 32, 3]}]}",
        b'{"inputs": [' + b"{}," * 400_000 + b"{}]}",
        b'{"inputs": [' + b"0," * 2_000_000 + b"0]}",
        b"{}]",
    ],
    ids=lambda body: str(body[:60]),
)
def test_hostile_json_is_refused(client: httpx.Client, body: bytes) -> None:
    assert len(refused(client.post(INFER, content=body))) < 1000
