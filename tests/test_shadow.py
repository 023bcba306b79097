"""A shadow looks at what the live version answered, is compared with it, and costs nobody an answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asgi import WAYS_IN, classify, sent, until
from asgi import call as ask
from conftest import Encode
from fakes import MODEL, FakeEngine, publish
from fastapi import FastAPI
from numpy.typing import NDArray

from app.classification import Classified
from app.engines import Prediction
from app.main import create_app
from app.model import State
from app.repository import Repository
from app.settings import Settings

pytestmark = pytest.mark.anyio

PREDICT = WAYS_IN[0]
Standing = Callable[..., AbstractAsyncContextManager[FastAPI]]


class ContraryEngine(FakeEngine):
    """Takes red for green and green for red."""

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        return super().predict(images[..., [1, 0, 2]])


@pytest.fixture
def live_engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def shadow_engine() -> ContraryEngine:
    return ContraryEngine()


@pytest.fixture
def standing(
    settings: Settings, repository: Repository, live_engine: FakeEngine, shadow_engine: ContraryEngine
) -> Standing:
    """The application with version 1 live and version 2 as its shadow, and settings of the test's own."""

    def fill(folder: Path) -> None:
        (folder / "weights.bin").write_bytes(b"others")

    publish(repository, ContraryEngine(), fill)
    engines = {"1": live_engine, "2": shadow_engine}

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[FastAPI]:
        given = {"model_version": 1, "shadow_version": 2, "shadow_share": 1.0} | changes
        app = create_app(settings.model_copy(update=given), lambda _, folder, __: engines[folder.name])
        async with app.router.lifespan_context(app):
            await until(lambda: app.state.serving.state is not State.LOADING)
            for engine in engines.values():
                engine.batches.clear()
            yield app

    return start


async def compared(app: FastAPI, name: str = MODEL) -> dict[str, Any]:
    answer = await ask(app, f"/models/{name}/compare", sent(b""), "GET")
    assert answer.status == 200
    found: dict[str, Any] = json.loads(answer.body)
    return found


async def label(app: FastAPI, picture: bytes) -> str:
    answer = await classify(app, PREDICT, picture)
    assert answer.status == 200
    return str(json.loads(answer.body)["label"])


async def test_what_both_say_is_compared_by_class(standing: Standing, encode: Encode) -> None:
    async with standing() as app:
        for colour in ("red", "red", "lime", "blue"):
            assert await label(app, encode(colour)) == {"lime": "green"}.get(colour, colour)
        await until(lambda: app.state.shadow.comparison.pictures == 4)
        found = await compared(app)
        assert (found["live"], found["shadow"], found["reason"]) == ("1", "2", "")
        assert found["agreement"]["value"] == 0.25
        assert found["agreement"]["low"] < 0.25 < found["agreement"]["high"]
        assert found["disagreements"] == [
            {"live": "red", "shadow": "green", "count": 2},
            {"live": "green", "shadow": "red", "count": 1},
        ]
        assert found["dropped"] == found["failed"] == 0
        metrics = (await ask(app, "/metrics", sent(b""), "GET")).body.decode()
        assert 'classifier_shadow_pictures_total{outcome="disagreed"} 3.0' in metrics


async def test_pictures_of_a_batch_are_looked_at_too(standing: Standing, encode: Encode) -> None:
    async with standing() as app:
        assert (await classify(app, WAYS_IN[1], encode("blue"))).status == 200
        await until(lambda: app.state.shadow.comparison.pictures == 1)


@pytest.mark.parametrize(("share", "looked_at"), [(0.25, 2), (0.5, 4), (1.0, 8)])
async def test_the_shadow_looks_at_its_share(
    standing: Standing, encode: Encode, shadow_engine: FakeEngine, share: float, looked_at: int
) -> None:
    async with standing(shadow_share=share) as app:
        for _ in range(8):
            await label(app, encode("red"))
        await until(lambda: app.state.shadow.comparison.pictures == looked_at)
    assert sum(shadow_engine.batches) == looked_at


async def test_a_shadow_that_fails_costs_no_answer(
    standing: Standing, encode: Encode, shadow_engine: FakeEngine
) -> None:
    async with standing() as app:
        shadow_engine.fails_on = lambda _: True
        assert await label(app, encode("red")) == "red"
        await until(lambda: app.state.shadow.comparison.failed == 1)
        assert await label(app, encode("red")) == "red"
        assert (await compared(app))["pictures"] == 0


async def test_more_pictures_than_may_wait_are_dropped_and_counted(
    standing: Standing, encode: Encode
) -> None:
    async with standing() as app:
        model, decoder = app.state.serving.live, app.state.decoder
        picture = await decoder.decode(encode("red"), model.input_size)
        seen = Classified(model, picture, await model.predict(picture.pixels[np.newaxis]), 0.0)
        for _ in range(70):
            app.state.shadow.look(seen)
        await until(lambda: app.state.shadow.comparison.pictures == 64)
        assert (await compared(app))["dropped"] == 6


async def test_pictures_that_wait_when_the_live_version_is_replaced_are_dropped_and_no_failure(
    standing: Standing, encode: Encode, live_engine: FakeEngine
) -> None:
    async with standing(model_poll_s=0) as app:
        model, decoder, shadow = app.state.serving.live, app.state.decoder, app.state.shadow
        picture = await decoder.decode(encode("red"), model.input_size)
        seen = Classified(model, picture, await model.predict(picture.pixels[np.newaxis]), 0.0)
        live_engine.gate.clear()
        last = asyncio.create_task(model.predict(picture.pixels[np.newaxis]))
        await until(lambda: model.batch is not None)
        shadow.look(seen)
        await until(lambda: model.background == 1)
        app.state.serving.versions(MODEL).residents.retire([1])
        await until(lambda: not model.alive)
        live_engine.gate.set()
        await last
        await until(lambda: shadow.comparison.dropped == 1)
        assert shadow.comparison.failed == 0


async def test_the_live_engine_is_never_kept_waiting_for_a_shadow_that_is_busy(
    standing: Standing, encode: Encode, shadow_engine: FakeEngine
) -> None:
    async with standing() as app:
        shadow_engine.gate.clear()
        busy = await start_with_label(app, encode("red"))
        await until(lambda: bool(shadow_engine.batches))
        assert await label(app, encode("red")) == "red"
        await until(lambda: app.state.shadow.comparison.dropped == 1)
        assert await label(app, encode("red")) == "red"
        shadow_engine.gate.set()
        await busy


async def start_with_label(app: FastAPI, picture: bytes) -> Any:
    """Asks the shadow itself, as who names its version may."""
    way_in = WAYS_IN[2]._replace(path=f"/v1/models/{MODEL}/versions/2:predict")
    return asyncio.create_task(classify(app, way_in, picture))


async def test_a_shadow_that_is_live_itself_is_not_compared(standing: Standing, encode: Encode) -> None:
    async with standing(model_version=2) as app:
        await label(app, encode("red"))
        found = await compared(app)
        assert (found["pictures"], found["reason"]) == (0, "Version 2 is live itself.")


async def test_a_shadow_that_is_not_there_says_why_and_the_live_one_answers(
    standing: Standing, encode: Encode
) -> None:
    async with standing(shadow_version=9) as app:
        assert await label(app, encode("red")) == "red"
        found = await compared(app)
        assert "no version 9" in found["reason"]


async def test_without_a_shadow_nothing_is_compared(standing: Standing, encode: Encode) -> None:
    async with standing(shadow_version=None) as app:
        await label(app, encode("red"))
        found = await compared(app)
        assert (found["shadow"], found["agreement"]) == (None, None)
        unknown = await ask(app, "/models/nobody/compare", sent(b""), "GET")
        assert (unknown.status, json.loads(unknown.body)["code"]) == (404, "unknown_model")
