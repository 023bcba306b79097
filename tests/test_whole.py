"""Answers in one piece say what they say in two, on every kind of connection, over real sockets."""

import json
from typing import Any, NamedTuple

import pytest
from asgi import call, ready, sent
from conftest import Encode
from fakes import FakeEngine
from starlette.types import Message, Receive, Scope, Send
from test_http_protocol import Connect, connect, port

from app.api import whole
from app.settings import Settings

__all__ = ["connect", "port"]  # fixtures


class Answer(NamedTuple):
    status: bytes
    headers: dict[str, str]
    body: Any


def request(picture: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    head = (
        b"POST /predict HTTP/" + version,
        b"Host: x",
        b"Content-Type: image/png",
        b"Content-Length: %d" % len(picture),
        *lines,
    )
    return b"\r\n".join(head) + b"\r\n\r\n" + picture


class Conversation:
    """A connection, and what comes back on it."""

    def __init__(self, connect: Connect) -> None:
        self._socket = connect()
        self._stream = self._socket.makefile("rb")

    def say(self, *requests: bytes) -> None:
        self._socket.sendall(b"".join(requests))

    def answer(self) -> Answer:
        status, headers = self._stream.readline().rstrip(), dict[str, str]()
        while line := self._stream.readline().rstrip().decode():
            name, _, value = line.partition(": ")
            assert name not in headers
            headers[name] = value
        return Answer(status, headers, json.loads(self._stream.read(int(headers["content-length"]))))

    def is_over(self) -> bool:
        return self._stream.read() == b""


def test_one_connection_serves_many_and_each_has_its_own_name(connect: Connect, encode: Encode) -> None:
    client = Conversation(connect)
    for colour, label in (("red", "red"), ("lime", "green"), ("red", "red")):
        client.say(request(encode(colour), b"X-Request-ID: " + label.encode()))
        found = client.answer()
        assert found.status == b"HTTP/1.1 200 OK"
        assert found.body["label"] == found.headers["x-request-id"] == label
        assert found.headers["content-type"] == "application/json"
        assert found.headers["server-timing"].startswith("read;dur=")


def test_requests_sent_at_once_are_answered_in_their_order(connect: Connect, encode: Encode) -> None:
    client = Conversation(connect)
    client.say(*(request(encode(colour)) for colour in ("red", "lime", "blue", "red")))
    assert [client.answer().body["label"] for _ in range(4)] == ["red", "green", "blue", "red"]


@pytest.mark.parametrize(
    ("lines", "version"), [((b"Connection: close",), b"1.1"), ((), b"1.0")], ids=["close", "HTTP/1.0"]
)
def test_who_wants_no_further_request_gets_the_end_of_the_connection(
    connect: Connect, encode: Encode, lines: tuple[bytes, ...], version: bytes
) -> None:
    client = Conversation(connect)
    client.say(request(encode("red"), *lines, version=version))
    found = client.answer()
    assert (found.body["label"], found.headers["connection"]) == ("red", "close")
    assert client.is_over()


@pytest.mark.anyio
async def test_a_server_that_does_not_take_it_gets_the_same_in_two_messages(
    settings: Settings, encode: Encode, connect: Connect
) -> None:
    async with ready(settings, FakeEngine()) as app:
        apart = await call(app, "/predict", sent(encode("red")), content_type="image/png")
    client = Conversation(connect)
    client.say(request(encode("red")))
    found = client.answer()
    assert found.body["probabilities"] == json.loads(apart.body)["probabilities"]
    assert found.headers.keys() - {"date", "server"} == apart.headers.keys()


@pytest.mark.anyio
async def test_what_cannot_be_taken_whole_goes_in_two_messages(settings: Settings, encode: Encode) -> None:
    refused: list[int] = []

    def take(_scope: object, status: int, _headers: whole.Headers, _body: bytes) -> bool:
        refused.append(status)
        return False

    async with ready(settings, FakeEngine()) as app:

        async def offering(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {"other": {}, whole.EXTENSION: take}
            await app(scope, receive, send)

        answer = await call(offering, "/predict", sent(encode("red")), content_type="image/png")  # type: ignore[arg-type]  # all that is called of it
    assert refused == [200]
    assert (answer.status, json.loads(answer.body)["label"]) == (200, "red")


@pytest.mark.anyio
async def test_without_the_extension_nothing_but_the_messages_of_asgi_is_sent(
    settings: Settings, encode: Encode
) -> None:
    kinds: list[str] = []

    async with ready(settings, FakeEngine()) as app:

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            async def seen(message: Message) -> None:
                kinds.append(message["type"])
                await send(message)

            await app(scope, receive, seen)

        picture = sent(encode("red"))
        answer = await call(watched, "/predict", picture, content_type="image/png")  # type: ignore[arg-type]  # as above
    assert kinds == ["http.response.start", "http.response.body"]
    assert int(answer.headers["content-length"]) == len(answer.body)
