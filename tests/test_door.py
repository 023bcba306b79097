"""What a full service says at its door is what it says inside, and costs no task."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from typing import NamedTuple

import pytest
import uvicorn
from asgi import WAYS_IN, Answer, Message, WayIn, call, unread, until
from conftest import Encode, free_port
from fakes import FakeEngine
from test_admission import any_way_in

from app.api import plain_request
from app.api.admission import Admission, Gate
from app.api.door import Door, _rendered
from app.api.plain_request import Head
from app.errors import OverloadedError
from app.http_protocol import bounded
from app.logs import FIELDS
from app.main import Service, create_app
from app.metrics import Metrics
from app.model import State
from app.settings import Settings

pytestmark = pytest.mark.anyio


class Watched(Door):
    """Remembers how many it let in."""

    passed: int = 0

    def refusal(self, scope: Message) -> bytes | None:
        answer = super().refusal(scope)
        self.passed += answer is None
        return answer

    def refusal_of(self, head: Head, client: tuple[str, int] | None) -> bytes | None:
        answer = super().refusal_of(head, client)
        self.passed += answer is None
        return answer


class Full(NamedTuple):
    """A service with one picture in its engine, which is held, and as many behind it as may wait."""

    app: Service
    door: Watched
    port: int
    engine: FakeEngine


def posted(path: str, body: bytes, **headers: str) -> bytes:
    fields = {"Host": "x", "Content-Type": "image/png", "Content-Length": str(len(body))} | headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def answered(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(head[0].split()[1]), headers, body)


@asynccontextmanager
async def full(settings: Settings, picture: bytes) -> AsyncIterator[Full]:
    settings = settings.model_copy(update={"queue_pictures": 1})
    engine, port = FakeEngine(), free_port()
    app = create_app(settings, lambda *_: engine)
    app.door = door = Watched(app, app.door._admission, app.door._names)
    config = uvicorn.Config(
        app,
        port=port,
        http=bounded(settings, app.door, app.state.metrics),
        log_config=None,
        ws="none",
        server_header=False,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started and app.state.serving.state is State.READY)
    engine.gate.clear()
    engine.batches.clear()
    waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    waiting[0][1].write(posted("/predict", picture))
    await until(lambda: engine.batches == [1])
    waiting[1][1].write(posted("/predict", picture))
    await until(lambda: app.state.serving.live.queued == 1)
    try:
        yield Full(app, door, port, engine)
    finally:
        engine.gate.set()
    for reader, writer in waiting:
        assert (await answered(reader)).status == 200
        writer.close()
    server.should_exit = True
    await running


@any_way_in
async def test_a_refusal_at_the_door_is_the_one_from_inside(
    settings: Settings, encode: Encode, way_in: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="app.requests")
    async with full(settings, encode()) as (app, door, port, _):
        passed = door.passed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(posted(way_in.path, b"anything", **{"X-Request-ID": "mine"}))
        outside = await answered(reader)
        assert door.passed == passed
        inside = await call(app, way_in.path, unread, content_length="8", x_request_id="mine")
        writer.close()
    assert outside.headers.pop("date")
    assert (outside.status, json.loads(outside.body)) == (503, json.loads(inside.body))
    assert outside.headers == inside.headers
    metrics = app.state.metrics.render().decode()
    assert 'classifier_refusals_total{code="overloaded"} 2.0' in metrics
    assert f'{{method="POST",route="{way_in.template}",status="503"}} 2.0' in metrics
    lines = [getattr(record, FIELDS) for record in caplog.records if record.name == "app.requests"]
    assert [line["code"] for line in lines[:2]] == ["overloaded", "overloaded"]
    assert lines[0].keys() >= {"method", "path", "status", "ms", "client", "request_id"}


async def test_the_connection_goes_on_after_a_refusal(settings: Settings, encode: Encode) -> None:
    async with full(settings, encode()) as (app, _, port, engine):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        two = posted("/predict", bytes(3000)) + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        for at in range(0, len(two), 1000):
            writer.write(two[at : at + 1000])
            await asyncio.sleep(0.01)
        assert ((await answered(reader)).status, (await answered(reader)).status) == (503, 200)
        engine.gate.set()
        await until(lambda: not app.door._admission.gate.is_crowded)
        writer.write(posted("/predict", encode()))
        assert (await answered(reader)).status == 200
        writer.close()


async def test_requests_that_come_together_are_answered_in_their_order(
    settings: Settings, encode: Encode
) -> None:
    async with full(settings, encode()) as (_, _door, port, _engine):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        probe = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(probe + posted("/predict", b"x") + probe + posted("/predict", b"x"))
        assert [(await answered(reader)).status for _ in range(4)] == [200, 503, 200, 503]
        writer.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": "100000"}, 503),
        ({"Expect": "100-continue"}, 503),
        ({"Connection": "close"}, 503),
        ({"X-Request-Timeout-Ms": "soon"}, 400),
    ],
)
async def test_who_needs_another_answer_gets_it_inside(
    settings: Settings, encode: Encode, headers: dict[str, str], status: int
) -> None:
    async with full(settings, encode()) as (_app, door, port, _):
        passed = door.passed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(posted("/predict", b"", **headers))
        assert (await answered(reader)).status == status
        assert door.passed == passed + ("Connection" not in headers)
        writer.close()


async def test_a_service_with_room_lets_everybody_in(settings: Settings, encode: Encode) -> None:
    async with full(settings, encode()) as (app, _, port, engine):
        engine.gate.set()
        await until(lambda: not app.door._admission.gate.is_crowded)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(posted(WAYS_IN[0].path, encode()))
        assert (await answered(reader)).status == 200
        writer.close()


@pytest.mark.parametrize("rest", [b"GET / HT", b"\r\n"])
async def test_who_was_refused_first_has_no_more_time_for_headers_than_others(
    settings: Settings, encode: Encode, rest: bytes
) -> None:
    settings = settings.model_copy(update={"header_timeout_s": 0.3})
    async with full(settings, encode()) as (_, _door, port, _engine):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(posted("/predict", b"x"))
        assert (await answered(reader)).status == 503
        writer.write(rest)
        left = await asyncio.wait_for(reader.read(), 5)  # until the service closes the connection
        assert left.startswith(b"HTTP/1.1 408") or not left
        writer.close()


async def test_a_plain_request_is_refused_without_the_parser_and_the_next_one_read_by_it(
    settings: Settings, encode: Encode
) -> None:
    """Also on a new connection, which had a timer for its first headers."""
    settings = settings.model_copy(update={"header_timeout_s": 0.3})
    async with full(settings, encode()) as (_, _door, port, _engine):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request, status in (
            (posted("/predict", b"x"), 503),
            (posted("/predict", b"x"), 503),
            (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
            (posted("/predict", b"x"), 503),
        ):
            writer.write(request)
            assert (await answered(reader)).status == status
            await asyncio.sleep(0.4)
        writer.write(b"\r\n")
        await asyncio.sleep(0.1)
        writer.write(posted("/predict", b"x")[:30])
        assert (await asyncio.wait_for(answered(reader), 5)).status == 408
        writer.close()


async def test_refusals_of_one_moment_are_each_whole_whatever_their_requests_are_called(
    settings: Settings, encode: Encode
) -> None:
    seen = set()
    async with full(settings, encode()) as (_, door, _port, _engine):
        for given in ({}, {"X-Request-ID": "mine"}, {}, {"X-Request-ID": 60 * "z"}, {}, {}):
            head = plain_request.read(posted("/predict", b"x", **given))
            assert head
            answer = door.refusal_of(head, None)
            assert answer
            headers, _, body = answer.partition(b"\r\n\r\n")
            assert b"content-length: %d\r\n" % len(body) in headers
            name = json.loads(body)["instance"]
            assert headers.endswith(b"x-request-id: %b" % name.encode())
            assert name == given.get("X-Request-ID", name)
            seen.add(name)
    assert len(seen) == 6


async def test_what_is_too_much_for_a_deadline_is_told_only_to_those_who_have_the_same(
    settings: Settings, encode: Encode
) -> None:
    class Hurried(Admission):
        """Too full for whoever does not allow the ten seconds that are the default here."""

        def excess(self, *args: object, **_: object) -> OverloadedError | None:
            (allowed_s,) = (arg for arg in args if isinstance(arg, float))
            return OverloadedError(f"{allowed_s:g} s") if allowed_s < 10 else None

    settings = settings.model_copy(update={"request_timeout_s": 10.0})
    async with full(settings, encode()) as (app, door, _port, _engine):
        hurried = Door(app, Hurried(settings, door._admission.gate), door._names)
        told = []
        for given in ("200", "200", "900", None, "200", "20000"):
            headers = {"X-Request-Timeout-Ms": given} if given else {}
            head = plain_request.read(posted("/predict", b"x", **headers))
            assert head
            answer = hurried.refusal_of(head, None)
            told.append(json.loads(answer.partition(b"\r\n\r\n")[2])["detail"] if answer else "come in")
    assert told == ["0.2 s", "0.2 s", "0.9 s", "come in", "0.2 s", "come in"]


async def test_after_one_refusal_others_are_expected_at_the_door(settings: Settings, encode: Encode) -> None:
    """Where deadlines are short, few requests are in, and yet there is too much for another one."""
    gate = Gate(settings.model_copy(update={"queue_pictures": 1}), Metrics())
    assert not gate.is_crowded
    async with full(settings, encode()) as (app, _door, _port, _engine):
        assert gate.excess(app.state.serving.live, app.state.decoder, allowed_s=30)
        assert (gate.in_flight, gate.is_crowded) == (0, True)
        await until(lambda: not gate.is_crowded)


class Telling(Admission):
    """Finds each of these to be too much, one after the other."""

    def __init__(self, settings: Settings, gate: Gate, errors: list[OverloadedError]) -> None:
        super().__init__(settings, gate)
        self.errors = errors

    def excess(self, *_: object, **__: object) -> OverloadedError:
        return self.errors.pop(0)


async def test_each_refusal_says_what_there_was_too_much_of_then(settings: Settings, encode: Encode) -> None:
    said = [
        ("a", 1.0, 1, 2),
        ("a", 1.2, 1, 2),
        ("a", 1.9, 1, 2),
        ("a", 1.2, 1, 3),
        ("a", 1.2, 4, 3),
        ("b", 1.2, 4, 3),
    ]
    errors = [
        OverloadedError(detail, retry_after_s=after, limit=limit, received=received)
        for detail, after, limit, received in said
    ]
    heard = []
    async with full(settings, encode()) as (app, door, _port, _engine):
        rendered = _rendered.cache_info().misses
        telling = Door(app, Telling(settings, door._admission.gate, errors), door._names)
        head = plain_request.read(posted("/predict", b"x"))
        assert head
        while errors:
            answer = telling.refusal_of(head, None)
            assert answer
            problem = json.loads(answer.partition(b"\r\n\r\n")[2])
            after = re.search(rb"retry-after: (\d+)\r\n", answer)
            assert after
            heard.append((problem["detail"], int(after[1]), problem["limit"], problem["received"]))
            await asyncio.sleep(0.012)
    assert heard == [(detail, ceil(after), limit, received) for detail, after, limit, received in said]
    assert _rendered.cache_info().misses - rendered == len(set(heard)) < len(heard)
