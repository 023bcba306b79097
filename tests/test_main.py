import re
from typing import Any

import httpx2 as httpx
import pytest
from asgi import until
from fakes import FakeEngine

from app import main
from app.api import problems
from app.errors import CANNOT_START, SettingsError
from app.feedback import Feedback
from app.main import create_app
from app.metrics import Metrics
from app.model import State
from app.settings import Settings


def test_the_first_page_leads_on(client: httpx.Client) -> None:
    body = client.get("/").json()
    assert body["docs"] == "/docs"
    assert body["predict"]["path"] == "/predict"
    assert client.get(body["openapi"]).status_code == 200


def test_a_browser_gets_a_page(client: httpx.Client) -> None:
    answer = client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.headers["content-type"].startswith("text/html")
    assert 'href="docs"' in answer.text


def test_the_documentation_needs_no_other_host(client: httpx.Client) -> None:
    answer = client.get("/docs")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", answer.text)
    assert "<script" not in answer.text


ON_EVERY_ROUTE = (
    "not_found",
    "method_not_allowed",
    "headers_timeout",
    "headers_too_large",
    "malformed_request",
    "internal_error",
)


def test_the_documentation_explains_every_error_under_the_address_that_problems_give(
    client: httpx.Client,
) -> None:
    page = client.get("/docs").text
    announced = examples(client.get("/openapi.json").json(), problems.MEDIA_TYPE)
    for code in {*announced, *ON_EVERY_ROUTE}:
        assert page.count(f"id='{code}'") == 1, code


def examples(description: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        name: example["value"]
        for path in description["paths"].values()
        for operation in path.values()
        for answer in operation["responses"].values()
        for name, example in answer.get("content", {}).get(kind, {}).get("examples", {}).items()
    }


def test_every_answer_in_the_description_has_an_example(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    assert {"/predict", "/livez", "/readyz"} <= set(description["paths"])
    own = [methods for path, methods in description["paths"].items() if not path.startswith(("/v1", "/v2"))]
    for answer in (
        answer for path in own for operation in path.values() for answer in operation["responses"].values()
    ):
        assert all(content["examples"] for content in answer["content"].values())


def test_the_examples_are_what_the_service_would_say(client: httpx.Client) -> None:
    found = examples(client.get("/openapi.json").json(), problems.MEDIA_TYPE)
    for code, example in found.items():
        assert problems.Problem.model_validate(example).code == code


def test_the_picture_can_be_sent_in_each_way_that_is_described(client: httpx.Client) -> None:
    body = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]
    assert set(body["content"]) == {"multipart/form-data", "image/*", "application/octet-stream"}


def test_settings_that_cannot_be_used_stop_the_start_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLASSIFIER_PORT", "many")
    with pytest.raises(SettingsError):
        create_app()
    with pytest.raises(SystemExit) as stopped:
        main.__getattr__("app")
    assert stopped.value.code == CANNOT_START
    assert "CLASSIFIER_PORT cannot be 'many'" in capsys.readouterr().err


class FailingFeedback(Feedback):
    def start(self) -> None:
        raise PermissionError(13, "Permission denied")


@pytest.mark.anyio
async def test_a_start_that_fails_in_a_way_nobody_thought_of_ends_the_process_and_is_told(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings, lambda *_: FakeEngine())
    app.state.feedback = FailingFeedback.configured(settings, app.state.metrics)
    with pytest.raises(SystemExit) as ended:
        await main._start(app)
    assert ended.value.code == CANNOT_START
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert "Permission denied" in caplog.text


class FailingMetrics(Metrics):
    def tell_others(self) -> bool:
        raise OSError(28, "No space left on device")


@pytest.mark.anyio
async def test_a_task_that_fails_beside_the_requests_leaves_nothing_open_at_the_end(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine()
    app = create_app(settings, lambda *_: engine)
    app.state.metrics = FailingMetrics()
    async with app.router.lifespan_context(app):
        await until(lambda: app.state.serving.state is State.READY)
    assert engine.closed
    assert "No space left on device" in caplog.text


def test_the_module_has_nothing_else_to_give() -> None:
    with pytest.raises(AttributeError, match="no attribute 'application'"):
        main.__getattr__("application")
