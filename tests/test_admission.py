import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from asgi import WAYS_IN, Message, WayIn, call, classify, ready, sent, unread, until
from conftest import Encode
from fakes import FakeEngine
from fastapi import FastAPI

from app import imaging
from app.api import ways_in
from app.decoding import Decoder
from app.geometry import Fit
from app.imaging import Picture
from app.main import create_app
from app.settings import Settings

pytestmark = pytest.mark.anyio

any_way_in = pytest.mark.parametrize("way_in", WAYS_IN, ids=lambda way_in: way_in.template)
any_way_in_for_many = pytest.mark.parametrize("way_in", WAYS_IN[1:], ids=lambda way_in: way_in.template)


@asynccontextmanager
async def full(settings: Settings, picture: bytes) -> AsyncIterator[FastAPI]:
    """One picture in the engine, which is held, and as many behind it as may wait."""
    engine = FakeEngine()
    async with ready(settings.model_copy(update={"queue_pictures": 1}), engine) as app:
        engine.gate.clear()
        try:
            in_engine = asyncio.create_task(classify(app, WAYS_IN[0], picture))
            await until(lambda: engine.batches == [1])
            waiting = asyncio.create_task(classify(app, WAYS_IN[0], picture))
            await until(lambda: app.state.serving.live.queued == 1)
            yield app
        finally:
            engine.gate.set()
        for admitted in (in_engine, waiting):
            assert (await admitted).status == 200


@any_way_in
async def test_a_full_service_refuses_before_the_body_is_read(
    settings: Settings, encode: Encode, way_in: WayIn
) -> None:
    async with full(settings, encode()) as app:
        answer = await call(app, way_in.path, unread, content_length="100000")
        assert (answer.status, answer.message) == (503, "1 pictures are waiting and at most 1 may.")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["connection"] == "close"
        is_problem = answer.headers["content-type"] == "application/problem+json"
        assert is_problem == way_in.path.startswith("/predict")


async def test_a_full_service_still_answers_probes_and_shows_its_figures(
    settings: Settings, encode: Encode
) -> None:
    async with full(settings, encode()) as app:
        for path in ("/livez", "/readyz", "/metrics", "/v2/health/ready", "/"):
            assert (await call(app, path, unread, method="GET")).status == 200


async def test_the_connection_is_kept_where_little_is_left_to_read(
    settings: Settings, encode: Encode
) -> None:
    """Another one for each refusal would cost a full service more than the refusal does."""
    async with full(settings, encode()) as app:
        for little in ({}, {"content_length": "3000"}):
            answer = await call(app, "/predict", unread, **little)
            assert (answer.status, "connection" in answer.headers) == (503, False)
        for much in ({"content_length": "70000"}, {"content_length": "9", "expect": "100-continue"}):
            answer = await call(app, "/predict", unread, **much)
            assert (answer.status, answer.headers["connection"]) == (503, "close")


@any_way_in
async def test_until_a_model_answers_no_body_is_read(settings: Settings, way_in: WayIn) -> None:
    gate = threading.Event()

    def choose(*_: object) -> FakeEngine:
        assert gate.wait(timeout=20)
        return FakeEngine()

    app = create_app(settings, choose)
    async with app.router.lifespan_context(app):
        answer = await call(app, way_in.path, unread, transfer_encoding="chunked")
        assert (answer.status, answer.message) == (503, "The model colours is being loaded.")
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
        gate.set()


async def test_more_bytes_than_may_wait_for_a_decoder_are_refused_before_they_are_read(
    settings: Settings, encode: Encode
) -> None:
    held = threading.Event()

    def decode(data: bytes, *, size: tuple[int, int], fit: Fit) -> Picture:
        assert held.wait(timeout=20)
        return imaging.decode(data, size=size, fit=fit)

    picture = encode()
    limit = 2 * len(picture)
    async with ready(settings.model_copy(update={"queue_bytes": limit}), FakeEngine()) as app:
        app.state.decoder = Decoder(1, max_pictures=9, decode=decode)
        try:
            # Whatever its size: nobody waits, so there is nothing that it could be too much with.
            alone = asyncio.create_task(classify(app, WAYS_IN[0], picture))
            await until(lambda: app.state.decoder.waiting_bytes)
            left = limit - app.state.decoder.waiting_bytes
            refused = await call(app, "/predict", unread, content_length=str(left + 1))
            assert refused.status == 503
            assert refused.message == (
                f"{limit - left:,} bytes of pictures wait to be decoded, this request has {left + 1:,}, and "
                f"at most {limit:,} may."
            )
            assert int(refused.headers["retry-after"]) >= 1
            fitting = asyncio.create_task(classify(app, WAYS_IN[0], picture))
            await until(lambda: app.state.decoder.waiting == 2)
        finally:
            held.set()
        assert [(await each).status for each in (alone, fitting)] == [200, 200]


async def test_slow_senders_take_up_room_only_until_they_are_gone(settings: Settings, encode: Encode) -> None:
    only_one = settings.model_copy(update={"max_requests_in_flight": 1})
    async with ready(only_one, FakeEngine()) as app:
        sending = asyncio.create_task(call(app, "/predict", asyncio.Event().wait, content_type="image/png"))  # type: ignore[arg-type]
        await until(lambda: b"classifier_requests_in_flight 1.0" in app.state.metrics.render())
        refused = await call(app, "/predict", unread, content_length="9")
        assert (refused.status, refused.message) == (
            503,
            "1 requests are being answered or received and at most 1 may.",
        )
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert (await classify(app, WAYS_IN[0], encode())).status == 200
        assert b"classifier_requests_in_flight 0.0" in app.state.metrics.render()


@pytest.mark.parametrize("path", [*(way_in.path for way_in in WAYS_IN), "/explain", "/v2/repository/index"])
async def test_bodies_that_arrive_are_bounded_together_whatever_they_are_for(
    settings: Settings, encode: Encode, path: str
) -> None:
    def half(of: bytes) -> Callable[[], Awaitable[Message]]:
        parts: list[Message] = [{"type": "http.request", "body": of, "more_body": True}]

        async def receive() -> Message:
            return parts.pop() if parts else await asyncio.Event().wait()  # type: ignore[return-value]

        return receive

    async with ready(settings.model_copy(update={"received_bytes": 1000}), FakeEngine()) as app:
        sending = asyncio.create_task(call(app, "/predict", half(bytes(600)), content_type="image/png"))
        await until(lambda: b"classifier_requests_in_flight 1.0" in app.state.metrics.render())
        kind = "multipart/form-data; boundary=limit" if "batch" in path else "image/png"
        refused = await call(app, path, half(bytes(600)), content_type=kind)
        assert refused.status == 503
        assert refused.message == "1,200 bytes of requests are here and at most 1,000 may be."
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert (await classify(app, WAYS_IN[0], encode())).status == 200


def test_every_route_that_classifies_passes_admission(settings: Settings) -> None:
    """The documented routes are the reference: whatever has one of these endings is guarded."""
    examples = {"{name}": "resnet", "{version}": "12", "{label}": "stable"}
    for documented in create_app(settings).openapi()["paths"]:
        path = re.sub(r"\{\w+\}", lambda found: examples[found[0]], documented)
        guarded = re.search(r"(/predict|/batch|:predict|:classify|/infer)$", path)
        assert ways_in.template({"method": "POST", "path": path}) == (documented if guarded else None)
        assert ways_in.template({"method": "GET", "path": path}) is None


async def test_while_the_service_drains_connections_end_with_their_answer(
    settings: Settings, encode: Encode
) -> None:
    async with ready(settings, FakeEngine()) as app:
        assert "connection" not in (await classify(app, WAYS_IN[0], encode())).headers
        app.state.serving.drain()
        for way_in in WAYS_IN:
            answer = await classify(app, way_in, encode())
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert (await call(app, "/livez", sent(b""), method="GET")).headers["connection"] == "close"


class Exhausted:
    """A decoder for which there is no memory."""

    waiting = waiting_bytes = 0
    wait_s = 0.0

    async def decode(self, *_: object, **__: object) -> None:
        raise MemoryError

    def close(self) -> None:
        pass


@any_way_in
async def test_a_request_that_finds_no_memory_is_told_to_come_back(
    settings: Settings, encode: Encode, way_in: WayIn
) -> None:
    async with ready(settings, FakeEngine()) as app:
        decoder, app.state.decoder = app.state.decoder, Exhausted()
        assert (await classify(app, way_in, encode())).status == 503
        app.state.decoder = decoder
        assert (await classify(app, way_in, encode())).status == 200


# Requests of many pictures


@any_way_in_for_many
async def test_what_is_computed_for_many_pictures_is_never_thrown_away(
    settings: Settings, encode: Encode, way_in: WayIn
) -> None:
    """However many requests come at once: who has no place for all of its pictures is refused before."""
    engine, pictures, callers = FakeEngine(), 10, 12
    async with ready(settings.model_copy(update={"queue_pictures": 25}), engine) as app:
        answers = await asyncio.gather(
            *(classify(app, way_in, *[encode()] * pictures) for _ in range(callers))
        )
        statuses = [answer.status for answer in answers]
        assert set(statuses) == {200, 503}
        assert sum(engine.batches) == pictures * statuses.count(200)
        assert app.state.gate.reserved == 0
        refused = next(answer for answer in answers if answer.status == 503)
        assert "pictures" in refused.message
        assert int(refused.headers["retry-after"]) >= 1


@any_way_in_for_many
async def test_as_many_pictures_as_may_wait_are_taken_beside_single_ones(
    settings: Settings, encode: Encode, way_in: WayIn
) -> None:
    """Those that come later find the places taken, and those that were there before are answered."""
    engine = FakeEngine()
    async with ready(settings.model_copy(update={"queue_pictures": 20}), engine) as app:
        engine.gate.clear()
        first = asyncio.create_task(classify(app, WAYS_IN[0], encode()))
        await until(lambda: engine.batches == [1])
        many = asyncio.create_task(classify(app, way_in, *[encode()] * 20))
        await until(lambda: app.state.gate.reserved + app.state.serving.live.queued == 20)
        assert (await classify(app, WAYS_IN[0], encode())).status == 503
        engine.gate.set()
        assert [(await each).status for each in (first, many)] == [200, 200]
        assert (await classify(app, WAYS_IN[0], encode())).status == 200


@any_way_in_for_many
async def test_places_are_given_back_by_those_who_leave(
    settings: Settings, encode: Encode, way_in: WayIn
) -> None:
    engine = FakeEngine()
    async with ready(settings.model_copy(update={"queue_pictures": 100}), engine) as app:
        engine.gate.clear()
        many = asyncio.create_task(classify(app, way_in, *[encode()] * 40, x_request_timeout_ms="300"))
        await until(lambda: app.state.gate.reserved + app.state.serving.live.queued > 20)
        assert (await many).status == 504
        assert app.state.gate.reserved == app.state.serving.live.queued == 0
        engine.gate.set()
