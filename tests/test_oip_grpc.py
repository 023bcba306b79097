"""Open Inference Protocol over gRPC, asked by the client that Triton's users have and by less polite ones."""

import asyncio
import base64
import logging
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import httpx2 as httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from conftest import Encode, free_port, reachable, serve
from fakes import CARD, MODEL, FakeEngine, publish_fake, strongest_colour
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from test_oip import COLOURS, random_pixels
from test_protobuf import parameters
from test_versions import copied
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from app.api import oip_grpc, pictures
from app.api.grpc_message import Messages
from app.api.oip_messages import SERVICE, message
from app.api.oip_request import Contract
from app.errors import BodyTimeoutError, OverloadedError, ProtocolError
from app.logs import FIELDS
from app.main import create_app
from app.manifest import Input, Manifest
from app.repository import Repository
from app.settings import Settings

INFER = f"/{SERVICE}/ModelInfer"
OTHER = "other"  # a second model
WAIT_S = 20.0
Engines = dict[str, FakeEngine]
HEALTHY, UNHEALTHY = b"\x08\x01", b"\x08\x02"  # field 1 is 1, SERVING, or 2, NOT_SERVING


class Port:
    """A service with a port for gRPC: its engine, its other port, and clients of both kinds."""

    def __init__(self, http: httpx.Client, engine: FakeEngine, settings: Settings) -> None:
        self.http = http
        self.engine = engine
        address = f"127.0.0.1:{settings.grpc_port}"
        self.triton = triton.InferenceServerClient(address)
        self.channel = grpc.insecure_channel(address)

    def call(self, request: Any, **options: Any) -> Any:
        """The response to a message, or to bytes that may be none."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        infer = self.channel.unary_unary(
            INFER, response_deserializer=service_pb2.ModelInferResponse.FromString
        )
        return infer(data, timeout=WAIT_S, **options)

    def refusal(self, request: Any, code: StatusCode = StatusCode.INVALID_ARGUMENT) -> str:
        with pytest.raises(grpc.RpcError) as refused:
            self.call(request)
        assert refused.value.code() is code, refused.value.details()
        return str(refused.value.details())

    def figure(self, name: str) -> float:
        """A value of /metrics, 0 if there is no such series yet."""
        lines = (line.rpartition(" ") for line in self.http.get("/metrics").text.splitlines())
        return next((float(value) for series, _, value in lines if series == name), 0.0)


@contextmanager
def listening(settings: Settings, engine: FakeEngine) -> Iterator[Port]:
    settings = settings.model_copy(update={"grpc_port": free_port()})
    with serve(settings, engine) as http:
        port = Port(http, engine, settings)
        try:
            yield port
        finally:
            engine.gate.set()
            port.triton.close()
            port.channel.close()


@pytest.fixture(scope="module")
def shared_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    repository = Repository(tmp_path_factory.mktemp("grpc"))
    publish_fake(repository)
    with listening(Settings(model_root=repository.root, model_name=MODEL), FakeEngine()) as port:
        yield port


@pytest.fixture
def port(shared_port: Port) -> Iterator[Port]:
    yield shared_port
    shared_port.engine.gate.set()
    shared_port.engine.fails_on = lambda _: False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def given_input(array: NDArray[Any], name: str, kind: str) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), kind)
    tensor.set_data_from_numpy(array)
    return tensor


def pixels_input(images: NDArray[np.uint8]) -> triton.InferInput:
    return given_input(images, "images", "UINT8")


def files_input(*files: bytes) -> triton.InferInput:
    return given_input(np.array(files, dtype=object), "image_bytes", "BYTES")


def typed(name: str, datatype: str, shape: list[int], **contents: Any) -> Any:
    """A request with one tensor that is not in raw form."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape, contents=service_pb2.InferTensorContents(**contents)
    )
    return service_pb2.ModelInferRequest(model_name=MODEL, inputs=[tensor])


ONE_PICTURE = typed("images", "UINT8", [1, 32, 32, 3], uint_contents=[200] * 3072)


def asking(name: str) -> Any:
    """The same of another model."""
    return service_pb2.ModelInferRequest(model_name=name, inputs=ONE_PICTURE.inputs)


# The client that others wrote


@pytest.mark.parametrize("names", [[], ["probabilities"], ["ood_score", "probabilities"]])
def test_tritonclient_sends_pixels(port: Port, names: list[str]) -> None:
    images = random_pixels(11)
    wanted = [triton.InferRequestedOutput(name) for name in names]
    result = port.triton.infer(MODEL, [pixels_input(images)], request_id="abc", outputs=wanted or None)
    expected = strongest_colour(images)
    assert np.array_equal(result.as_numpy("probabilities"), expected.probabilities)
    if "ood_score" in names or not names:
        assert np.array_equal(result.as_numpy("ood_score"), expected.ood_score)
    answer = result.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("abc", MODEL, "1")
    assert [output.name for output in answer.outputs] == (names or ["probabilities", "ood_score"])


def test_tritonclient_sends_files(port: Port, encode: Encode) -> None:
    result = port.triton.infer(MODEL, [files_input(*map(encode, COLOURS))], model_version="1")
    assert result.as_numpy("probabilities").argmax(axis=1).tolist() == [0, 1, 2]


def test_tritonclient_gets_classes(port: Port, encode: Encode) -> None:
    wanted = triton.InferRequestedOutput("probabilities", class_count=2)
    result = port.triton.infer(MODEL, [files_input(encode("lime"), encode("blue"))], outputs=[wanted])
    found = result.as_numpy("probabilities")
    assert [text.decode().split(":")[1:] for text in found[:, 0]] == [["1", "green"], ["2", "blue"]]
    assert found.shape == (2, 2)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclient_compresses(port: Port, algorithm: str) -> None:
    images = random_pixels(100)
    result = port.triton.infer(MODEL, [pixels_input(images)], compression_algorithm=algorithm)
    assert np.array_equal(result.as_numpy("probabilities"), strongest_colour(images).probabilities)


def test_tritonclient_says_how_pictures_are_fitted(port: Port, encode: Encode) -> None:
    flag = Image.new("RGB", (96, 32), "blue")
    flag.paste("red", (32, 0, 64, 32))
    for fit, colour in (("squash", 2), ("crop", 0)):
        result = port.triton.infer(MODEL, [files_input(encode(flag))], parameters={"fit": fit})
        assert result.as_numpy("probabilities").argmax() == colour


def test_tritonclient_finds_out_the_same_as_over_http(port: Port) -> None:
    assert port.triton.is_server_live()
    assert port.triton.is_server_ready()
    assert port.triton.is_model_ready(MODEL)
    assert port.triton.is_model_ready(MODEL, "1")
    assert not port.triton.is_model_ready(MODEL, "2")
    assert not port.triton.is_model_ready("nobody")
    server = port.triton.get_server_metadata(as_json=True)
    assert server == port.http.get("/v2").json() | {"extensions": ["classification"]}
    told = port.triton.get_model_metadata(MODEL, as_json=True)
    same = port.http.get(f"/v2/models/{MODEL}").json()
    assert (told["name"], told["versions"], told["platform"]) == (MODEL, ["1"], same["platform"])
    for tensors in ("inputs", "outputs"):
        assert [one | {"shape": list(map(int, one["shape"]))} for one in told[tensors]] == same[tensors]
    (listed,) = port.triton.get_model_repository_index(as_json=True)["models"]
    assert listed == {"name": MODEL, "version": "1", "state": "READY"}


def test_tritonclient_shows_our_errors(port: Port) -> None:
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'nobody'") as unknown:
        port.triton.infer("nobody", [pixels_input(random_pixels(1))])
    assert unknown.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException, match="version 2 is not found"):
        port.triton.infer(MODEL, [pixels_input(random_pixels(1))], model_version="2")


# Typed contents


def test_an_answer_has_the_form_of_its_request(port: Port) -> None:
    images = random_pixels(30, seed=4)
    answer = port.call(typed("images", "UINT8", list(images.shape), uint_contents=images.ravel().tolist()))
    probabilities, score = answer.outputs
    expected = strongest_colour(images)
    found = np.array(probabilities.contents.fp32_contents, np.float32).reshape(probabilities.shape)
    assert np.array_equal(found, expected.probabilities)
    assert np.array_equal(np.array(score.contents.fp32_contents, np.float32), expected.ood_score)
    assert not answer.raw_output_contents
    raw = port.triton.infer(MODEL, [pixels_input(images)]).get_response()
    assert len(raw.raw_output_contents) == 2
    assert not any(output.HasField("contents") for output in raw.outputs)


def test_files_and_classes_come_typed_too(port: Port, encode: Encode) -> None:
    request = typed("image_bytes", "BYTES", [2], bytes_contents=[encode("lime"), encode("red", "JPEG")])
    wanted = request.outputs.add(name="probabilities")
    wanted.parameters["classification"].int64_param = 1
    (output,) = port.call(request).outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [2, 1])
    assert [text.split(b":")[2] for text in output.contents.bytes_contents] == [b"green", b"red"]


def test_files_may_be_base64_if_they_say_so(port: Port, encode: Encode) -> None:
    request = typed("image_bytes", "BYTES", [1], bytes_contents=[base64.b64encode(encode("blue"))])
    assert "not a picture" in port.refusal(request)
    request.inputs[0].parameters["content_type"].string_param = "base64"
    assert np.argmax(port.call(request).outputs[0].contents.fp32_contents) == 2


# Refusals


def raw(shape: list[int], *tensors: bytes, name: str = "images", datatype: str = "UINT8") -> Any:
    request = typed(name, datatype, shape)
    request.raw_input_contents.extend(tensors)
    return request


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (service_pb2.ModelInferRequest(model_name=MODEL), "expected 1 inputs but got 0 inputs"),
        (typed("x", "UINT8", [1], uint_contents=[1]), 'unexpected inference input "x"'),
        (typed("images", "FP32", [1], fp32_contents=[1]), "data-type is \"FP32\", but model 'colours'"),
        (typed("images", "UINT8", [1, 9], uint_contents=[1] * 9), "Expected [-1, 32, 32, 3], got [1, 9]"),
        (typed("images", "UINT8", [2**40, 32, 32, 3], uint_contents=[1]), "1 to 256 are taken"),
        (typed("images", "UINT8", [1, 32, 32, 3], uint_contents=[1] * 9), "has 9 elements"),
        (typed("images", "UINT8", [1, 32, 32, 3], uint_contents=[256]), "holds 256; elements of UINT8"),
        (typed("images", "UINT8", [1, 32, 32, 3], int_contents=[1]), "either uint_contents or raw_input_"),
        (typed("image_bytes", "BYTES", [1]), "either bytes_contents or raw_input_contents"),
        (typed("image_bytes", "BYTES", [1], bytes_contents=[b"a", b"b"]), "should hold 1 elements"),
        (typed("image_bytes", "BYTES", [1], bytes_contents=[b"abc"]), "The element 0 of the input 'image_b"),
        (raw([1, 32, 32, 3], b"abc"), "has 3 elements; its shape [1, 32, 32, 3] takes 3072"),
        (raw([1, 32, 32, 3], b"", b""), "2 raw_input_contents for 1 inputs"),
        (raw([1], b"\xff" * 9, name="image_bytes", datatype="BYTES"), "announces 4294967295 bytes"),
        (b"\xff", "The message is no ModelInferRequest."),
        (b"\x2a\x00" * 20_000, "more than 10,256 fields"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named(port: Port, request_: Any, text: str) -> None:
    assert text in port.refusal(request_)


def test_an_output_or_a_parameter_that_there_is_not_is_named(port: Port) -> None:
    request = service_pb2.ModelInferRequest.FromString(ONE_PICTURE.SerializeToString())
    request.outputs.add(name="label")
    assert 'unexpected inference output "label"' in port.refusal(request)
    request.outputs[0].name = "probabilities"
    request.outputs[0].parameters["classification"].string_param = "three"
    assert "'classification' must be a whole number" in port.refusal(request)
    request.outputs[0].parameters["classification"].Clear()
    assert "'classification' must be a whole number" in port.refusal(request)


def test_contents_beside_raw_contents_are_refused(port: Port) -> None:
    request = raw([1, 32, 32, 3], bytes(3072))
    request.inputs[0].contents.uint_contents.append(1)
    assert "both" in port.refusal(request)


tensors = st.builds(
    service_pb2.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["images", "image_bytes", "other"]),
    datatype=st.sampled_from(["UINT8", "BYTES", "FP32"]),
    shape=st.sampled_from([[1], [2], [1, 2, 1, 3], [2, 2, 1, 3], [-1, 2, 1, 3], [2**62]]),
    parameters=parameters,
    contents=st.builds(
        service_pb2.InferTensorContents,
        uint_contents=st.just([]) | st.lists(st.integers(0, 256), min_size=6, max_size=12),
        bytes_contents=st.lists(st.binary(max_size=4), max_size=2),
    ),
)
calls = st.builds(
    service_pb2.ModelInferRequest,
    parameters=parameters,
    inputs=st.lists(tensors, max_size=2),
    outputs=st.lists(
        st.builds(
            service_pb2.ModelInferRequest.InferRequestedOutputTensor,
            name=st.sampled_from(["probabilities", "ood_score", "other"]),
            parameters=parameters,
        ),
        max_size=2,
    ),
    raw_input_contents=st.just([]) | st.lists(st.binary(max_size=12), max_size=2),
)


@given(calls)
def test_whatever_is_asked_is_refused_in_our_words_or_makes_pictures(asked: Any) -> None:
    size = Input.model_construct(height=2, width=1)
    manifest = Manifest.model_construct(**dict(CARD) | {"input": size}, name=MODEL, version=1)
    try:
        received = message("ModelInferRequest").FromString(asked.SerializeToString())
        read = oip_grpc.read(received, Contract(manifest, 4))
    except ProtocolError:
        return
    assert 1 <= pictures.count(read.pictures) <= 4


# Limits, failures, time


def test_a_message_that_is_too_long_once_it_is_unpacked_is_refused(port: Port) -> None:
    assert "larger than max" in port.refusal(bytes(20 * 2**20 + 1), StatusCode.RESOURCE_EXHAUSTED)
    with pytest.raises(grpc.RpcError) as bomb:
        port.call(bytes(21 * 2**20), compression=grpc.Compression.Gzip)
    assert bomb.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert port.call(ONE_PICTURE).outputs


def test_a_failure_of_the_engine_is_internal(port: Port) -> None:
    port.engine.fails_on = lambda _: True
    assert port.refusal(ONE_PICTURE, StatusCode.INTERNAL)


def test_a_fault_of_ours_keeps_its_secrets_and_is_logged(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    class Forgetful(FakeEngine):
        @property
        def name(self) -> str:  # type: ignore[override]
            if self.closed:
                raise ZeroDivisionError("a secret")
            return "fake"

    engine = Forgetful()
    with listening(settings, engine) as port:
        engine.closed = True
        with pytest.raises(InferenceServerException) as fault:
            port.triton.get_model_metadata(MODEL)
    assert fault.value.status() == "StatusCode.INTERNAL"
    assert fault.value.message() == "The service made a mistake; its log has more under the request id."
    assert "a secret" in caplog.text


@contextmanager
def full(settings: Settings) -> Iterator[Port]:
    """One picture in the engine, which is held, and as many behind it as may wait."""
    with listening(settings.model_copy(update={"queue_pictures": 2}), FakeEngine()) as port:
        port.engine.batches.clear()
        port.engine.gate.clear()
        infer, asked = port.channel.unary_unary(INFER), ONE_PICTURE.SerializeToString()
        admitted = [infer.future(asked, timeout=WAIT_S)]
        until(lambda: port.engine.batches == [1])
        admitted += [infer.future(asked, timeout=WAIT_S) for _ in range(2)]
        until(lambda: queued(port) == 2)
        yield port
        port.engine.gate.set()
        assert all(each.result() for each in admitted)


def queued(port: Port) -> float:
    return port.figure('classifier_pictures_waiting{stage="queue"}')


@contextmanager
def withheld(port: Port, timeout_s: float = WAIT_S) -> Iterator[Any]:
    """A call whose message does not come."""
    end = threading.Event()

    def messages() -> Iterator[bytes]:
        end.wait(WAIT_S)
        yield from ()

    call = port.channel.stream_unary(INFER).future(messages(), timeout=timeout_s)
    try:
        yield call
    finally:
        end.set()


def test_messages_are_bounded_together_with_all_other_bodies(settings: Settings) -> None:
    with listening(settings.model_copy(update={"received_bytes": 1000}), FakeEngine()) as port:
        for _ in range(2):
            assert "1,001 bytes of requests are here" in port.refusal(bytes(1001), StatusCode.UNAVAILABLE)
            port.refusal(bytes(1000))  # which is no message


def test_a_full_service_refuses_before_the_message_and_says_when_to_come_back(settings: Settings) -> None:
    with full(settings) as port:
        with withheld(port) as call, pytest.raises(grpc.RpcError, match="2 pictures are waiting and at most"):
            call.result()
        assert call.code() is StatusCode.UNAVAILABLE
        assert int(dict(call.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000
        assert port.triton.is_server_ready()
        assert port.figure('classifier_refusals_total{code="overloaded"}') == 1


@contextmanager
def slow(port: Port, engine: FakeEngine, name: str = MODEL) -> Iterator[None]:
    """The engine of a model took a second for a picture, is held at the next one, and one waits."""
    infer, asked = port.channel.unary_unary(INFER), asking(name).SerializeToString()
    engine.gate.clear()
    engine.batches.clear()
    first = infer.future(asked, timeout=WAIT_S)
    time.sleep(1)
    engine.gate.set()
    assert first.result()
    engine.gate.clear()
    others = [infer.future(asked, timeout=WAIT_S)]
    until(lambda: engine.batches == [1, 1])
    others.append(infer.future(asked, timeout=WAIT_S))
    until(lambda: queued(port) == 1)
    yield
    engine.gate.set()
    assert all(each.result() for each in others)


def test_a_call_that_would_be_answered_after_its_deadline_is_refused_before_the_message(
    settings: Settings,
) -> None:
    with listening(settings, FakeEngine()) as port, slow(port, port.engine):
        with (
            withheld(port, timeout_s=2) as call,
            pytest.raises(grpc.RpcError, match="too long for a request"),
        ):
            call.result()
        assert call.code() is StatusCode.UNAVAILABLE


@contextmanager
def two_models(settings: Settings, repository: Repository, **changes: Any) -> Iterator[tuple[Port, Engines]]:
    """A service with a second model, and the engine of each by name."""
    copied(repository, OTHER)
    engines = {MODEL: FakeEngine(), OTHER: FakeEngine()}
    settings = settings.model_copy(update={"grpc_port": free_port(), "models": OTHER} | changes)
    with reachable(create_app(settings, lambda _, folder, __: engines[folder.parent.name])) as http:
        port = Port(http, engines[MODEL], settings)
        try:
            grpc.channel_ready_future(port.channel).result(WAIT_S)
            until(port.triton.is_server_ready)
            yield port, engines
        finally:
            for engine in engines.values():
                engine.gate.set()
            port.triton.close()
            port.channel.close()


def fill(port: Port, engine: FakeEngine, name: str) -> list[Any]:
    """The calls of one picture in the engine of a model, which is held, and of one that waits."""
    infer, asked = port.channel.unary_unary(INFER), asking(name).SerializeToString()
    engine.batches.clear()
    engine.gate.clear()
    admitted = [infer.future(asked, timeout=WAIT_S)]
    until(lambda: engine.batches == [1])
    waiting = queued(port)
    admitted.append(infer.future(asked, timeout=WAIT_S))
    until(lambda: queued(port) == waiting + 1)
    return admitted


@pytest.mark.parametrize("busy", [MODEL, OTHER])
def test_a_model_that_is_full_keeps_no_call_from_another(
    settings: Settings, repository: Repository, busy: str
) -> None:
    """Only where both are, it need not be known which of them is asked."""
    idle = OTHER if busy == MODEL else MODEL
    with two_models(settings, repository, queue_pictures=1) as (port, engines):
        admitted = fill(port, engines[busy], busy)
        with pytest.raises(grpc.RpcError, match="1 pictures are waiting, this request has 1,") as refused:
            port.call(asking(busy))
        assert refused.value.code() is StatusCode.UNAVAILABLE
        assert int(dict(refused.value.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000
        assert port.call(asking(idle)).model_name == idle
        admitted += fill(port, engines[idle], idle)
        with withheld(port) as call, pytest.raises(grpc.RpcError, match="1 pictures are waiting"):
            call.result()
        for engine in engines.values():
            engine.gate.set()
        assert all(each.result() for each in admitted)


def test_the_deadline_is_held_against_the_model_that_is_asked(
    settings: Settings, repository: Repository
) -> None:
    with two_models(settings, repository) as (port, engines), slow(port, engines[OTHER], OTHER):
        infer = port.channel.unary_unary(INFER)
        with pytest.raises(grpc.RpcError, match="too long for a request") as refused:
            infer(asking(OTHER).SerializeToString(), timeout=2)
        assert refused.value.code() is StatusCode.UNAVAILABLE
        assert infer(asking(MODEL).SerializeToString(), timeout=2)


def test_one_request_in_flight_may_be_a_call_that_names_one_of_two_models(
    settings: Settings, repository: Repository
) -> None:
    with two_models(settings, repository, max_requests_in_flight=1) as (port, _):
        assert port.call(asking(OTHER)).model_name == OTHER


def test_calls_and_requests_share_one_limit(settings: Settings, encode: Encode) -> None:
    one = settings.model_copy(update={"max_requests_in_flight": 1})
    with listening(one, FakeEngine()) as port, withheld(port) as call:
        until(lambda: port.figure("classifier_requests_in_flight") == 1)
        assert port.http.post("/predict", files={"file": encode()}).status_code == 503
        assert "at most 1 may" in port.refusal(ONE_PICTURE, StatusCode.UNAVAILABLE)
        call.cancel()
        until(lambda: port.figure("classifier_requests_in_flight") == 0)
        assert port.call(ONE_PICTURE).outputs


def in_flight(port: Port) -> float:
    return port.figure("classifier_requests_in_flight")


def room_for_one(settings: Settings) -> Settings:
    """One message at a time, since it could be as long as all that may be received."""
    return settings.model_copy(update={"received_bytes": settings.max_body_bytes})


def test_no_more_messages_are_received_at_once_than_fit(settings: Settings) -> None:
    with listening(room_for_one(settings), FakeEngine()) as port, withheld(port) as call:
        until(lambda: in_flight(port) == 1)
        waiting = port.channel.unary_unary(INFER).future(ONE_PICTURE.SerializeToString(), timeout=WAIT_S)
        until(lambda: in_flight(port) == 2)
        assert port.triton.is_server_ready()  # what asks for no picture waits for nobody
        assert not waiting.done()
        call.cancel()
        assert waiting.result()


async def silence() -> AsyncGenerator[bytes]:
    await asyncio.Event().wait()
    yield b""


@pytest.mark.anyio
async def test_a_message_that_has_no_turn_in_time_is_too_much(settings: Settings) -> None:
    messages = Messages(room_for_one(settings))
    first = asyncio.create_task(messages.read(silence(), WAIT_S, is_large=True))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="1 messages are being received and at most 1 may"):
        await messages.read(silence(), 0.01, is_large=True)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    with pytest.raises(BodyTimeoutError, match=r"did not arrive within 0\.01 s"):
        await messages.read(silence(), 0.01, is_large=True)


@contextmanager
def counting(port: int) -> Iterator[tuple[str, list[int]]]:
    """An address that leads one connection to the port, and the sizes of what it sends there."""
    sent: list[int] = []

    def carry(source: socket.socket, target: socket.socket, sizes: list[int]) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                sizes.append(len(data))
                target.sendall(data)

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(("127.0.0.1", port)) as to,
    ):

        def accept() -> None:
            client, _ = listener.accept()
            with client:
                threading.Thread(target=carry, args=(to, client, [])).start()
                carry(client, to, sent)

        threading.Thread(target=accept).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", sent


def test_a_message_that_waits_for_its_turn_stays_with_its_caller(settings: Settings) -> None:
    """The library would take all of it, and the more the faster it comes, though nobody has asked."""
    one = room_for_one(settings).model_copy(update={"grpc_port": free_port()})
    calls, length = 20, 10 * 2**20
    with serve(one, FakeEngine()) as http, counting(one.grpc_port) as (address, sent):
        port = Port(http, FakeEngine(), one)
        with withheld(port) as first, grpc.insecure_channel(address) as channel:
            until(lambda: in_flight(port) == 1)
            waiting = [channel.unary_unary(INFER).future(bytes(length), timeout=WAIT_S) for _ in range(calls)]
            until(lambda: in_flight(port) == 1 + calls)
            time.sleep(0.5)
            assert sum(sent) < length  # of all of them together
            first.cancel()
            for each in waiting:
                assert each.code() is StatusCode.INVALID_ARGUMENT
            assert sum(sent) > calls * length
        port.triton.close()
        port.channel.close()


def test_a_message_that_does_not_come_has_its_time(settings: Settings) -> None:
    hasty = settings.model_copy(update={"body_timeout_s": 0.1})
    with listening(hasty, FakeEngine()) as port, withheld(port) as call:
        with pytest.raises(grpc.RpcError, match=r"did not arrive within 0\.1 s"):
            call.result()
        assert call.code() is StatusCode.DEADLINE_EXCEEDED


def test_an_answer_that_would_come_too_late_is_not_waited_for(settings: Settings) -> None:
    hasty = settings.model_copy(update={"request_timeout_s": 0.1})
    with listening(hasty, FakeEngine()) as port:
        port.engine.gate.clear()
        assert "no answer within 0.1 s" in port.refusal(ONE_PICTURE, StatusCode.DEADLINE_EXCEEDED)


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "deadline"])
def test_what_nobody_waits_for_any_more_never_reaches_the_engine(port: Port, leaves: bool) -> None:
    port.engine.batches.clear()
    port.engine.gate.clear()
    infer, asked = port.channel.unary_unary(INFER), ONE_PICTURE.SerializeToString()
    first = infer.future(asked, timeout=WAIT_S)
    until(lambda: port.engine.batches == [1])
    second = infer.future(asked, timeout=WAIT_S if leaves else 0.3)
    if leaves:
        until(lambda: queued(port) == 1)
        second.cancel()
    else:
        with pytest.raises(grpc.RpcError):
            second.result()
        assert second.code() is StatusCode.DEADLINE_EXCEEDED
    until(lambda: queued(port) == 0)
    port.engine.gate.set()
    assert first.result()
    assert port.call(ONE_PICTURE).outputs
    assert port.engine.batches == [1, 1]


# What is seen of a call


def test_a_call_is_counted_and_logged_like_a_request(
    port: Port, encode: Encode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="app.requests")
    counted = f'classifier_requests_total{{method="gRPC",route="{INFER}",status="%d"}}'
    before = {status: port.figure(counted % status) for status in (200, 400)}
    read = port.figure("classifier_request_body_bytes_sum")
    port.triton.infer(MODEL, [files_input(encode())], headers={"x-request-id": "mine"})
    port.triton.is_server_live()
    assert port.refusal(typed("x", "UINT8", [1]))
    assert {status: port.figure(counted % status) - count for status, count in before.items()} == {
        200: 1,
        400: 1,
    }
    assert port.figure("classifier_request_body_bytes_sum") > read + len(encode())
    lines = [vars(record)[FIELDS] for record in caplog.records if hasattr(record, FIELDS)]
    good, bad = (line for line in lines if line["method"] == "gRPC")
    assert (good["path"], good["status"], good["request_id"]) == (INFER, 200, "mine")
    assert (good["client"], "code" in good) == ("127.0.0.1", False)
    assert (bad["status"], bad["code"]) == (400, "protocol_error")


def test_every_answer_names_its_request(port: Port) -> None:
    infer = port.channel.unary_unary(INFER)
    answer, call = infer.with_call(ONE_PICTURE.SerializeToString(), metadata=[("x-request-id", "a word")])
    assert answer
    assert len(dict(call.trailing_metadata())["x-request-id"]) == 32
    with pytest.raises(grpc.RpcError) as refused:
        port.call(b"", metadata=[("x-request-id", "mine")])
    assert dict(refused.value.trailing_metadata())["x-request-id"] == "mine"


# Before and after


def health(port: Port, service: bytes = b"") -> bytes:
    """The answer of `grpc.health.v1`, for the whole server or for one of its services."""
    asked = b"\x0a%c" % len(service) + service if service else b""
    answer: bytes = port.channel.unary_unary("/grpc.health.v1.Health/Check")(asked, timeout=WAIT_S)
    return answer


def test_the_health_check_of_grpc_knows_the_services_on_the_port(port: Port) -> None:
    assert health(port) == health(port, SERVICE.encode()) == HEALTHY
    with pytest.raises(grpc.RpcError, match="no service 'other'") as unknown:
        health(port, b"other")
    assert unknown.value.code() is StatusCode.NOT_FOUND


def test_a_service_that_loads_is_alive_and_one_that_ends_is_not_ready(settings: Settings) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    settings = settings.model_copy(update={"grpc_port": free_port()})
    app = create_app(settings, lambda *_: engine)
    with reachable(app) as http:
        port = Port(http, engine, settings)
        grpc.channel_ready_future(port.channel).result(WAIT_S)
        assert port.triton.is_server_live()
        assert not port.triton.is_server_ready()
        assert not port.triton.is_model_ready(MODEL)
        assert health(port) == UNHEALTHY
        assert "is being loaded" in port.refusal(ONE_PICTURE, StatusCode.UNAVAILABLE)
        engine.gate.set()
        until(port.triton.is_server_ready)
        app.state.serving.drain()
        assert not port.triton.is_server_ready()
        assert not port.triton.is_model_ready(MODEL)
        assert health(port) == UNHEALTHY
        assert port.call(ONE_PICTURE).outputs


def test_a_call_that_is_being_answered_when_the_service_ends_gets_its_answer(settings: Settings) -> None:
    engine = FakeEngine()
    settings = settings.model_copy(update={"grpc_port": free_port()})
    with reachable(create_app(settings, lambda *_: engine)) as http:
        port = Port(http, engine, settings)
        grpc.channel_ready_future(port.channel).result(WAIT_S)
        until(port.triton.is_server_ready)
        engine.batches.clear()
        engine.gate.clear()
        call = port.channel.unary_unary(INFER).future(ONE_PICTURE.SerializeToString(), timeout=WAIT_S)
        until(lambda: engine.batches == [1])
        threading.Timer(0.3, engine.gate.set).start()
    assert call.result()
