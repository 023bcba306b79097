import asyncio
from typing import Any

import pytest
import uvicorn
from asgi import until
from conftest import Encode, free_port
from fakes import FakeEngine
from PIL import Image

from app.api import departure
from app.api.departure import Departure
from app.http_protocol import bounded
from app.main import create_app
from app.model import State
from app.settings import Settings

pytestmark = pytest.mark.anyio


def test_who_watches_is_told_once_it_happens_and_later_ones_at_once() -> None:
    told: list[str] = []
    connection = Departure()

    def first() -> None:
        told.append("first")

    def forgotten() -> None:
        told.append("forgotten")

    connection.watch(first)
    connection.watch(forgotten)
    connection.forget(forgotten)
    assert told == []
    connection.happen()
    connection.watch(lambda: told.append("later"))
    assert told == ["first", "later"]


def test_a_scope_has_that_of_its_connection_or_none() -> None:
    scope: dict[str, Any] = {"extensions": {"other": {}, departure.EXTENSION: (connection := Departure())}}
    assert departure.of(scope) is connection
    assert departure.of({"extensions": {"other": {}}}) is None
    assert departure.of({}) is None


@pytest.mark.parametrize("size", [(32, 32), (600, 500)])
async def test_the_work_of_who_hangs_up_leaves_the_queue_at_once(
    settings: Settings, encode: Encode, size: tuple[int, int]
) -> None:
    """Over a real socket: the server tells, and nothing listens. A large body makes it pause to read."""
    engine, port, picture = FakeEngine(), free_port(), encode(Image.effect_noise(size, 90))
    app = create_app(settings, lambda *_: engine)
    config = uvicorn.Config(app, port=port, http=bounded(settings), log_config=None, ws="none", lifespan="on")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started and app.state.serving.state is State.READY)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    request = head % len(picture) + picture
    engine.gate.clear()
    engine.batches.clear()
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    connections[0][1].write(request)
    await until(lambda: engine.batches == [1])
    connections[1][1].write(request[:200])
    await asyncio.sleep(0.05)
    connections[1][1].write(request[200:])
    await until(lambda: app.state.serving.live.queued == 1)
    connections[1][1].close()
    await until(lambda: app.state.serving.live.queued == 0)
    engine.gate.set()
    assert (await connections[0][0].readline()).startswith(b"HTTP/1.1 200")
    assert engine.batches == [1]
    connections[0][1].close()
    server.should_exit = True
    await serving
