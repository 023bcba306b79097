import asyncio
import re
import threading

import httpx2 as httpx
import numpy as np
import pytest
from conftest import Encode
from fakes import MODEL, FakeEngine

from app import engines
from app.errors import EngineError
from app.main import create_app
from app.serving import Serving
from app.settings import Settings

pytestmark = pytest.mark.anyio

READY = {"status": "ready", "engine": "fake", "precision": "float32"}


@pytest.mark.parametrize(("path", "body"), [("/livez", {"status": "live"}), ("/readyz", READY)])
def test_probes_of_a_ready_service_are_green(client: httpx.Client, path: str, body: dict[str, str]) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (200, body)
    assert client.head(path).status_code == 200


async def test_until_the_model_is_loaded_it_lives_but_is_not_ready(settings: Settings) -> None:
    gate = threading.Event()

    def choose(*_: object) -> FakeEngine:
        assert gate.wait(timeout=20)
        return FakeEngine()

    app = create_app(settings, choose)
    async with app.router.lifespan_context(app), client_of(app) as client:
        assert (await client.get("/livez")).status_code == 200
        for method, path in (("GET", "/readyz"), ("POST", "/predict")):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
            assert answer.json()["detail"] == "The model colours is being loaded."
            assert answer.headers["retry-after"] == "1"
        gate.set()
        await until_ready(client)


async def test_a_faster_engine_that_failed_is_told_of_in_every_answer(
    settings: Settings, encode: Encode
) -> None:
    def choose(name: str, *_: object) -> FakeEngine:
        if name == engines.candidates(engines.AUTO)[0]:
            raise EngineError("OpenVINO cannot load int8.xml.")
        return FakeEngine()

    app = create_app(settings, choose)
    async with app.router.lifespan_context(app), client_of(app) as client:
        await until_ready(client)
        answer = await client.get("/readyz")
        reason = "OpenVINO cannot load int8.xml."
        assert answer.json() == READY | {"fallback": reason}
        files = {"file": encode()}
        for path in ("/predict", "/explain"):
            assert (await client.post(path, files=files)).json()["model"]["fallback"] == reason
        several = (await client.post("/predict/batch", files=files)).json()
        assert several["results"][0]["model"]["fallback"] == reason
        served = f"/v1/models/{MODEL}:predict", f"/v2/models/{MODEL}/infer"
        pixels = np.zeros((1, 32, 32, 3), int).tolist()
        v1 = await client.post(served[0], json={"instances": pixels})
        assert (v1.headers["X-Model"], v1.headers["X-Model-Fallback"]) == (f"{MODEL}/1 fake/float32", reason)
        tensor = {"name": "images", "shape": [1, 32, 32, 3], "datatype": "UINT8", "data": pixels}
        v2 = await client.post(served[1], json={"inputs": [tensor]})
        told = {"engine": "fake", "precision": "float32", "fallback": reason}
        assert v2.json()["parameters"] == told
        for answered in (v1, v2):
            stages = re.findall(r"(\w+);dur=", answered.headers["Server-Timing"])
            assert stages == ["decode", "queue", "infer", "encode"]


async def test_a_service_that_shuts_down_is_not_ready_but_answers(settings: Settings) -> None:
    app = create_app(settings, lambda *_: FakeEngine())
    async with app.router.lifespan_context(app), client_of(app) as client:
        await until_ready(client)
        serving: Serving = app.state.serving
        serving.drain()
        answer = await client.get("/readyz")
        assert (answer.status_code, "shutting down" in answer.json()["detail"]) == (503, True)
        assert (await client.get("/livez")).status_code == 200
        assert (await client.post("/predict")).json()["code"] == "missing_file"


async def until_ready(client: httpx.AsyncClient) -> None:
    while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def client_of(app: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")  # type: ignore[arg-type]
