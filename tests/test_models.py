"""`/models`: what there is, and who may change it."""

import base64
import gc
import json
import shutil
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import pytest
from asgi import until
from conftest import Encode
from fakes import CARD, MODEL, FakeEngine, publish_fake
from fastapi import FastAPI, Request
from pydantic import SecretStr
from test_health import client_of

from app.api.management import check_key
from app.errors import UnauthorizedError
from app.main import create_app
from app.manifest import Measurement
from app.model import State
from app.repository import Repository
from app.settings import Settings

pytestmark = pytest.mark.anyio

ACCURACIES = (
    Measurement(
        metric="accuracy", data="test", value=0.91, pictures=9, engine="reference", precision="float32"
    ),
    Measurement(metric="accuracy", data="test", value=0.9, pictures=9, engine="fake", precision="float32"),
)


async def listed(client: httpx.AsyncClient) -> Any:
    """The one model that is served."""
    (model,) = (await client.get("/models")).raise_for_status().json()["models"]
    return model


async def test_every_version_is_listed_with_what_it_is_doing(
    settings: Settings, repository: Repository
) -> None:
    publish_fake(repository, CARD.model_copy(update={"measurements": ACCURACIES}))
    publish_fake(repository)
    (repository.root / MODEL / "3/weights.bin").write_bytes(b"damaged")
    app = create_app(settings, lambda *_: FakeEngine())
    async with app.router.lifespan_context(app), client_of(app) as client:
        await until(lambda: app.state.serving.state is State.READY)
        model = await listed(client)
        versions = model.pop("versions")
    assert model == {
        "name": MODEL,
        "live": "2",
        "pinned": False,
        "labels": {},
        "persisted": True,
        "problem": "",
    }
    assert [(one["version"], one["state"], one["live"]) for one in versions] == [
        ("1", "available", False),
        ("2", "ready", True),
        ("3", "failed", False),
    ]
    assert [(one["engine"], one["precision"], one["accuracy"]) for one in versions] == [
        (None, None, None),
        ("fake", "float32", 0.9),
        (None, None, None),
    ]
    assert "weights.bin has" in versions[2]["reason"]
    assert versions[1]["created"] == repository.open(MODEL, 2).manifest.created.isoformat().replace(
        "+00:00", "Z"
    )


async def test_a_version_that_is_not_in_memory_shows_the_accuracy_that_was_measured_first(
    settings: Settings, repository: Repository
) -> None:
    publish_fake(repository, CARD.model_copy(update={"measurements": ACCURACIES}))
    app = create_app(settings.model_copy(update={"model_version": 1}), lambda *_: FakeEngine())
    async with app.router.lifespan_context(app), client_of(app) as client:
        await until(lambda: app.state.serving.state is State.READY)
        model = await listed(client)
    assert (model["live"], model["pinned"], model["versions"][1]["accuracy"]) == ("1", True, 0.91)


# Management

KEY = "a key of the tests"


@asynccontextmanager
async def managed(settings: Settings, **changes: Any) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """A service that can be managed, and a client that has the key."""
    given = {"admin_key": SecretStr(KEY), "model_poll_s": 0.0} | changes
    app = create_app(settings.model_copy(update=given), lambda *_: FakeEngine())
    async with app.router.lifespan_context(app), client_of(app) as client:
        await until(lambda: app.state.serving.state is State.READY)
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield app, client


def decided(repository: Repository) -> Any:
    """What is written in the model's folder."""
    return json.loads((repository.root / MODEL / "serving.json").read_text())


CALLS = (
    ("PUT", f"/models/{MODEL}/live"),
    ("POST", f"/models/{MODEL}/versions/1/load"),
    ("POST", f"/models/{MODEL}/versions/1/unload"),
    ("PUT", f"/models/{MODEL}/labels/stable"),
    ("DELETE", f"/models/{MODEL}/labels/stable"),
)


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_without_a_key_there_are_no_calls_that_manage(
    client: httpx.Client, method: str, path: str
) -> None:
    answer = client.request(method, path, headers={"Authorization": f"Bearer {KEY}"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert path.replace(MODEL, "{name}") not in client.get("/openapi.json").json()["paths"]


async def test_without_the_right_key_nothing_is_changed_or_told(settings: Settings) -> None:
    async with managed(settings) as (_, client):
        for shown in ("", KEY, f"Basic {KEY}", "Bearer", "Bearer ", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}"):
            client.headers["Authorization"] = shown
            for method, path in CALLS:
                answer = await client.request(method, path, content=b"no json")
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert KEY not in answer.text
            for action in ("load", "unload"):
                answer = await client.post(f"/v2/repository/models/{MODEL}/{action}")
                assert (answer.status_code, list(answer.json())) == (401, ["error"])


def test_a_refusal_keeps_nothing_of_the_request_that_it_refused(settings: Settings) -> None:
    request = Request({"type": "http", "headers": []})
    kept = weakref.ref(request)
    with pytest.raises(UnauthorizedError):
        check_key(request, settings)
    del request
    gc.collect()
    assert kept() is None


async def test_one_call_rolls_back_and_a_restart_remembers_it(
    settings: Settings, repository: Repository, encode: Encode
) -> None:
    publish_fake(repository)
    async with managed(settings) as (_, client):
        model = (await client.put(f"/models/{MODEL}/live", json={"version": 1})).raise_for_status().json()
        assert (model["live"], model["pinned"], model["persisted"]) == ("1", True, True)
        answer = await client.post("/predict", content=encode(), headers={"Content-Type": "image/png"})
        assert answer.json()["model"]["version"] == "1"
    assert decided(repository) == {"live": 1}
    publish_fake(repository)
    async with managed(settings) as (_, client):
        assert (await listed(client))["live"] == "1"
        model = (await client.put(f"/models/{MODEL}/live", json={"version": "latest"})).json()
        assert (model["live"], model["pinned"]) == ("3", False)
    assert decided(repository) == {}


async def test_an_unsound_version_is_refused_with_the_reason_and_changes_nothing(
    settings: Settings, repository: Repository
) -> None:
    publish_fake(repository)
    (repository.root / MODEL / "1/weights.bin").write_bytes(b"damaged")
    async with managed(settings) as (_, client):
        for call in (
            client.put(f"/models/{MODEL}/live", json={"version": 1}),
            client.post(f"/models/{MODEL}/versions/1/load"),
        ):
            answer = await call
            assert (answer.status_code, answer.json()["code"]) == (409, "unsound_version")
            assert "weights.bin has" in answer.json()["detail"]
        assert (await listed(client))["live"] == "2"
    assert not (repository.root / MODEL / "serving.json").exists()


async def test_labels_follow_the_call_and_point_only_to_what_is_ready(
    settings: Settings, repository: Repository, encode: Encode
) -> None:
    publish_fake(repository)
    picture = {"instances": [{"b64": base64.b64encode(encode()).decode()}]}
    canary, of_canary = f"/models/{MODEL}/labels/canary", f"/v1/models/{MODEL}/labels/canary"
    async with managed(settings) as (app, client):
        answer = await client.put(canary, json={"version": 1})
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert f"POST /models/{MODEL}/versions/1/load" in answer.json()["detail"]
        assert (await client.post(f"{of_canary}:predict", json=picture)).status_code == 400

        (await client.post(f"/models/{MODEL}/versions/1/load")).raise_for_status()
        model = (await client.put(canary, json={"version": "1"})).raise_for_status().json()
        assert (model["live"], model["labels"]) == ("2", {"canary": "1"})
        (await client.post(f"{of_canary}:predict", json=picture)).raise_for_status()
        (status,) = (await client.get(of_canary)).json()["model_version_status"]
        assert (status["version"], status["state"]) == ("1", "AVAILABLE")
        metadata = (await client.get(f"{of_canary}/metadata")).json()
        assert metadata["model_spec"]["version"] == "1"

        answer = await client.post(f"/models/{MODEL}/versions/1/unload")
        assert (answer.status_code, "label canary points" in answer.json()["detail"]) == (409, True)
        (await client.delete(canary)).raise_for_status()
        assert (await client.delete(canary)).json()["code"] == "label_not_found"
        (await client.post(f"/models/{MODEL}/versions/1/unload")).raise_for_status()
        await until(lambda: app.state.serving.versions(MODEL).known()[1].state is State.AVAILABLE)
        assert (await client.post(f"/v2/models/{MODEL}/versions/1/infer")).status_code == 404


async def test_the_live_version_is_not_unloaded(settings: Settings) -> None:
    async with managed(settings) as (_, client):
        answer = await client.post(f"/models/{MODEL}/versions/1/unload")
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_a_version_that_the_settings_pin_stays_live(settings: Settings, repository: Repository) -> None:
    publish_fake(repository)
    async with managed(settings, model_version=1) as (_, client):
        answer = await client.put(f"/models/{MODEL}/live", json={"version": 2})
        assert (answer.status_code, "CLASSIFIER_MODEL_VERSION pins" in answer.json()["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PUT", f"/models/{MODEL}/live", b"", 400, "malformed_body"),
        ("PUT", f"/models/{MODEL}/live", b"[]", 400, "invalid_parameter"),
        ("PUT", f"/models/{MODEL}/live", b'{"version": 0}', 400, "invalid_parameter"),
        ("PUT", f"/models/{MODEL}/live", b'{"version": true}', 400, "invalid_parameter"),
        ("PUT", f"/models/{MODEL}/live", b'{"version": 1.0}', 400, "invalid_parameter"),
        ("PUT", f"/models/{MODEL}/live", b'{"version": 1e999}', 400, "invalid_parameter"),
        ("PUT", f"/models/{MODEL}/live", b'{"version": 1, "force": true}', 400, "invalid_parameter"),
        ("PUT", f"/models/{MODEL}/live", b'{"version": 9}', 404, "unknown_model"),
        ("PUT", "/models/nobody/live", b'{"version": 1}', 404, "unknown_model"),
        ("PUT", f"/models/{MODEL}/labels/.x", b'{"version": 1}', 400, "invalid_parameter"),
        ("PUT", f"/models/{MODEL}/labels/x", b'{"version": "latest"}', 400, "invalid_parameter"),
        ("POST", f"/models/{MODEL}/versions/one/load", b"", 400, "invalid_parameter"),
        ("POST", f"/models/{MODEL}/versions/9/load", b"", 404, "unknown_model"),
        ("POST", f"/models/{MODEL}/versions/9/unload", b"", 404, "unknown_model"),
        ("POST", "/models/nobody/versions/1/load", b"", 404, "unknown_model"),
    ],
)
async def test_a_call_that_makes_no_sense_is_told_so(
    settings: Settings, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    async with managed(settings) as (_, client):
        answer = await client.request(method, path, content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_where_nothing_can_be_written_a_decision_holds_and_says_that_it_will_not_last(
    settings: Settings, repository: Repository
) -> None:
    publish_fake(repository)
    async with managed(settings) as (app, client):
        (repository.root / MODEL / "serving.json").mkdir()
        (repository.root / MODEL / "serving.json/in the way").touch()
        model = (await client.put(f"/models/{MODEL}/live", json={"version": 1})).json()
        assert (model["live"], model["persisted"]) == ("1", False)
        model = (await client.put(f"/models/{MODEL}/labels/stable", json={"version": 1})).json()
        assert (model["live"], model["labels"], model["persisted"]) == ("1", {"stable": "1"}, False)
        await app.state.serving.follow()
        model = await listed(client)
        assert (model["live"], model["labels"]) == ("1", {"stable": "1"})


async def test_of_several_workers_none_decides_what_the_others_would_not_follow(
    settings: Settings, repository: Repository
) -> None:
    publish_fake(repository)
    async with managed(settings.model_copy(update={"workers": 2})) as (_, client):
        assert (await client.put(f"/models/{MODEL}/live", json={"version": 2})).status_code == 200
        (repository.root / MODEL / "serving.json").unlink()
        (repository.root / MODEL / "serving.json").mkdir()
        (repository.root / MODEL / "serving.json/in the way").touch()
        answer = await client.put(f"/models/{MODEL}/live", json={"version": 1})
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert "One of 2 workers alone would follow this call" in answer.json()["detail"]
        assert (await listed(client))["live"] == "2"


async def test_the_document_of_a_managed_service_describes_what_it_does(settings: Settings) -> None:
    async with managed(settings) as (_, client):
        paths = (await client.get("/openapi.json")).json()["paths"]
        for method, path in CALLS:
            template = (
                path.replace(MODEL, "{name}").replace("/1/", "/{version}/").replace("stable", "{label}")
            )
            operation = paths[template][method.lower()]
            assert set(operation["responses"]) >= {"200", "401", "404", "409"}
        assert "Promote or roll back" in (await client.get("/docs")).text


# Open Inference Protocol


async def test_models_come_and_go_through_the_other_protocol_too(
    settings: Settings, repository: Repository
) -> None:
    shutil.copytree(repository.root / MODEL, repository.root / "other")
    document = json.loads((repository.root / "other/1/manifest.json").read_text()) | {"name": "other"}
    (repository.root / "other/1/manifest.json").write_text(json.dumps(document))
    repository_of = "/v2/repository/models"
    async with managed(settings) as (app, client):
        assert "model_repository" in (await client.get("/v2")).json()["extensions"]
        assert (await client.get("/v2/models/other/ready")).status_code == 404
        assert (await client.post(f"{repository_of}/nobody/load")).status_code == 404
        loaded = await client.post(f"{repository_of}/other/load", content=b'{"parameters": {}}')
        assert (loaded.status_code, loaded.content) == (200, b"")
        assert (await client.get("/v2/models/other/ready")).json() == {"name": "other", "ready": True}
        index = (await client.post("/v2/repository/index", json={"ready": True})).json()
        assert [(one["name"], one["state"]) for one in index] == [(MODEL, "READY"), ("other", "READY")]

        answer = await client.post(f"{repository_of}/other/load", json={"parameters": {"config": "{}"}})
        assert (answer.status_code, "'config' is not taken" in answer.json()["error"]) == (400, True)
        asked = {"parameters": {"unload_dependents": False}}
        assert (await client.post(f"{repository_of}/other/unload", json=asked)).content == b""
        assert "was unloaded" in (await client.get("/v2/models/other/ready")).json()["error"]
        await until(lambda: app.state.serving.versions("other").known()[1].state is State.AVAILABLE)
        answer = await client.post(f"{repository_of}/{MODEL}/unload")
        assert (answer.status_code, "default model" in answer.json()["error"]) == (409, True)
