"""`/models`: what there is, and who may change it."""

from typing import Any

import httpx2 as httpx
import pytest
from asgi import until
from fakes import CARD, MODEL, FakeEngine, publish_fake
from test_health import client_of

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
