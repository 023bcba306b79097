import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import pytest
from asgi import WAYS_IN, WayIn, call, classify, ready, sent, unread, until
from conftest import Encode
from fakes import FakeEngine
from fastapi import FastAPI
from test_admission import any_way_in

from app import imaging
from app.decoding import Decoder
from app.geometry import Fit
from app.imaging import Picture
from app.settings import Settings

pytestmark = pytest.mark.anyio

PREDICT = WAYS_IN[0]


class HeldDecode:
    """Decodes like the real thing once the gate is open, and keeps what it was given."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.seen: list[bytes] = []

    def __call__(self, data: bytes, *, size: tuple[int, int], fit: Fit) -> Picture:
        self.seen.append(data)
        assert self.gate.wait(timeout=20)
        return imaging.decode(data, size=size, fit=fit)


@any_way_in
async def test_who_sets_a_deadline_has_an_answer_on_time_although_the_engine_is_held(
    settings: Settings, encode: Encode, way_in: WayIn
) -> None:
    engine = FakeEngine()
    async with ready(settings, engine) as app:
        engine.gate.clear()
        began = perf_counter()
        answer = await classify(app, way_in, encode(), x_request_timeout_ms="80")
        took_s = perf_counter() - began
        engine.gate.set()
    assert (answer.status, answer.message) == (504, "There was no answer within 0.08 s.")
    assert 0.08 <= took_s < 5


async def test_a_deadline_can_be_no_longer_than_the_service_allows(
    settings: Settings, encode: Encode
) -> None:
    engine = FakeEngine()
    async with ready(settings.model_copy(update={"request_timeout_s": 0.05}), engine) as app:
        engine.gate.clear()
        answer = await classify(app, PREDICT, encode(), x_request_timeout_ms="60000")
        engine.gate.set()
    assert (answer.status, answer.message) == (504, "There was no answer within 0.05 s.")


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "1e3", "soon", "\u0663", "9" * 13, "5, 5"])
async def test_a_deadline_that_makes_no_sense_is_refused_before_the_body(
    settings: Settings, value: str
) -> None:
    async with ready(settings, FakeEngine()) as app:
        for way_in in WAYS_IN:
            answer = await call(app, way_in.path, unread, content_length="9", x_request_timeout_ms=value)
            assert (answer.status, "X-Request-Timeout-Ms must be a whole" in answer.message) == (400, True)
        assert b'classifier_refusals_total{code="invalid_parameter"} 5.0' in app.state.metrics.render()


@asynccontextmanager
async def slow(settings: Settings, picture: bytes, takes_s: float = 0.5) -> AsyncIterator[FastAPI]:
    """The engine took so long for a batch and is held in the next one; behind it one picture waits."""
    engine = FakeEngine()
    async with ready(settings, engine) as app:
        engine.gate.clear()
        first = asyncio.create_task(classify(app, PREDICT, picture))
        await asyncio.sleep(takes_s)
        engine.gate.set()
        assert (await first).status == 200
        engine.gate.clear()
        others = [asyncio.create_task(classify(app, PREDICT, picture))]
        await until(lambda: engine.batches == [1, 1])
        try:
            others.append(asyncio.create_task(classify(app, PREDICT, picture)))
            await until(lambda: app.state.serving.live.queued == 1)
            yield app
        finally:
            engine.gate.set()
        assert [(await each).status for each in others] == [200, 200]


@any_way_in
async def test_who_would_be_answered_too_late_is_refused_before_the_body_is_read(
    settings: Settings, encode: Encode, way_in: WayIn
) -> None:
    """Two batches of half a second: the one that runs and the one that would have this picture."""
    async with slow(settings, encode()) as app:
        answer = await call(app, way_in.path, unread, content_length="100000", x_request_timeout_ms="1000")
        assert answer.status == 503
        said = r"An answer would take about ([0-9.]+) s, too long for a request that allows 1 s\."
        assert (found := re.fullmatch(said, answer.message))
        assert float(found[1]) > 0.8
        assert int(answer.headers["retry-after"]) >= 1


async def test_who_allows_more_time_is_let_in_meanwhile(settings: Settings, encode: Encode) -> None:
    async with slow(settings, encode()) as app:
        in_time = asyncio.create_task(classify(app, PREDICT, encode(), x_request_timeout_ms="20000"))
        await until(lambda: app.state.serving.live.queued == 2)
    assert (await in_time).status == 200


async def test_the_default_is_a_deadline_too(settings: Settings, encode: Encode) -> None:
    async with slow(settings.model_copy(update={"request_timeout_s": 2}), encode(), takes_s=1) as app:
        answer = await call(app, "/predict", unread, content_length="9")
    assert (answer.status, "that allows 2 s" in answer.message) == (503, True)


async def test_while_nothing_waits_nobody_is_refused_for_what_is_only_expected(
    settings: Settings, encode: Encode
) -> None:
    """So an estimate that is too long ends by itself: the next picture shows what it takes now."""
    engine = FakeEngine()
    async with ready(settings, engine) as app:
        engine.gate.clear()
        first = asyncio.create_task(classify(app, PREDICT, encode()))
        await asyncio.sleep(1.5)
        engine.gate.set()
        assert (await first).status == 200
        assert app.state.serving.live.answer_s() > 1.2
        assert (await classify(app, PREDICT, encode(), x_request_timeout_ms="1500")).status == 200


@any_way_in
async def test_work_past_its_deadline_never_reaches_the_engine(
    settings: Settings, encode: Encode, way_in: WayIn
) -> None:
    engine = FakeEngine()
    async with ready(settings, engine) as app:
        engine.gate.clear()
        first = asyncio.create_task(classify(app, PREDICT, encode()))
        await until(lambda: engine.batches == [1])
        late = await classify(app, way_in, encode(), x_request_timeout_ms="150")
        engine.gate.set()
        assert (late.status, (await first).status) == (504, 200)
        assert (await classify(app, PREDICT, encode())).status == 200
    assert engine.batches == [1, 1]


async def test_work_past_its_deadline_is_never_decoded(settings: Settings, encode: Encode) -> None:
    async with ready(settings, FakeEngine()) as app:
        decode = HeldDecode()
        app.state.decoder = Decoder(1, max_pictures=9, decode=decode)
        first = asyncio.create_task(classify(app, PREDICT, encode("red")))
        await until(lambda: len(decode.seen) == 1)
        late = await classify(app, PREDICT, encode("blue"), x_request_timeout_ms="50")
        decode.gate.set()
        assert (late.status, (await first).status) == (504, 200)
        assert (await classify(app, PREDICT, encode("lime"))).status == 200
        assert decode.seen == [encode("red"), encode("lime")]
        assert app.state.decoder.waiting == 0


@any_way_in
async def test_the_work_of_a_client_who_left_never_reaches_the_engine(
    settings: Settings, encode: Encode, way_in: WayIn
) -> None:
    engine, left = FakeEngine(), asyncio.Event()
    async with ready(settings, engine) as app:
        engine.gate.clear()
        first = asyncio.create_task(classify(app, PREDICT, encode()))
        await until(lambda: engine.batches == [1])
        body = way_in.pack(encode())
        gone = asyncio.create_task(call(app, way_in.path, sent(body, left), content_type=way_in.content_type))
        await until(lambda: app.state.serving.live.queued == 1)
        left.set()
        assert (await asyncio.wait_for(gone, 10)).status == 499
        assert app.state.serving.live.queued == 0
        engine.gate.set()
        assert (await first).status == 200
        assert (await classify(app, PREDICT, encode())).status == 200
        assert engine.batches == [1, 1]
        assert b'classifier_refusals_total{code="client_disconnected"} 1.0' in app.state.metrics.render()


async def test_the_picture_of_a_client_who_left_is_never_decoded(settings: Settings, encode: Encode) -> None:
    left = asyncio.Event()
    async with ready(settings, FakeEngine()) as app:
        decode = HeldDecode()
        app.state.decoder = Decoder(1, max_pictures=9, decode=decode)
        first = asyncio.create_task(classify(app, PREDICT, encode("red")))
        await until(lambda: len(decode.seen) == 1)
        gone = asyncio.create_task(
            call(app, "/predict", sent(encode("blue"), left), content_type="image/png")
        )
        await until(lambda: app.state.decoder.waiting == 2)
        left.set()
        assert (await asyncio.wait_for(gone, 10)).status == 499
        assert app.state.decoder.waiting == 1
        decode.gate.set()
        assert (await first).status == 200
        assert decode.seen == [encode("red")]
