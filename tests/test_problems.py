import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2 as httpx
import pytest
from asgi import ready
from fakes import FakeEngine
from fastapi import FastAPI, Query
from test_errors import descendants

from app.api import problems
from app.errors import OverloadedError, ServiceError
from app.main import create_app
from app.settings import Settings

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/api.md"

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """A service in which everything goes wrong."""
    async with ready(settings, FakeEngine()) as app:

        @app.get("/number")
        async def number(value: float = Query(gt=0, allow_inf_nan=False)) -> float:
            return value

        @app.get("/full")
        async def full() -> None:
            raise OverloadedError("Full.", retry_after_s=2.2)

        @app.get("/fault")
        async def fault() -> None:
            raise ZeroDivisionError("a secret")

        yield app


async def get(app: FastAPI, path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path, headers=headers)


def documented_errors() -> dict[str, int]:
    """Code -> status, from the table in the documentation."""
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    return {code: int(status) for status, code in rows}


def test_every_error_that_openapi_announces_is_documented_with_its_status() -> None:
    operations = (
        each for path in create_app(Settings()).openapi()["paths"].values() for each in path.values()
    )
    for operation in operations:
        for status, answer in operation["responses"].items():
            for code in answer["content"].get(problems.MEDIA_TYPE, {}).get("examples", {}):
                assert documented_errors()[code] == int(status)


def test_the_documentation_names_no_error_that_does_not_exist() -> None:
    ours = {kind.code for kind in descendants(ServiceError)}
    assert documented_errors().keys() <= ours | {"not_found", "method_not_allowed"}


def test_an_error_without_a_row_of_its_own_is_answered_like_its_parent() -> None:
    class NewError(OverloadedError):
        code = "new"

    assert problems.status_of(NewError("...")) == 503


async def test_a_service_that_is_full_says_when_to_come_back(app: FastAPI) -> None:
    answer = await get(app, "/full")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


@pytest.mark.parametrize("value", ["nan", "-inf", "1e999", "s3cret", "-5", ""])
async def test_an_invalid_value_is_a_400_that_does_not_repeat_it(app: FastAPI, value: str) -> None:
    answer = await get(app, f"/number?value={value}")
    if answer.status_code == 200:
        pytest.fail(f"{value} was taken")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "invalid_request")
    assert problem["detail"].startswith("The request is not valid at query.value")
    assert not value or value not in problem["detail"]


async def test_a_fault_of_ours_keeps_its_secrets_and_gives_a_name_to_look_for(app: FastAPI) -> None:
    answer = await get(app, "/fault")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert problem["instance"] == answer.headers["x-request-id"] != ""


async def test_a_request_keeps_the_id_that_it_came_with(app: FastAPI) -> None:
    answer = await get(app, "/full", **{"X-Request-ID": "trace-42"})
    assert answer.headers.get_list("x-request-id") == ["trace-42"]
    assert answer.json()["instance"] == "trace-42"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, '"><script>', "a;b"])
async def test_an_id_that_could_do_harm_is_replaced(app: FastAPI, given: str) -> None:
    answer = await get(app, "/full", **{"X-Request-ID": given})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_an_unknown_path_is_a_problem_too(client: httpx.Client) -> None:
    answer = client.get("/nowhere")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == problems.MEDIA_TYPE


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", "/predict", "POST"), ("DELETE", "/livez", "GET")]
)
def test_a_wrong_method_says_which_is_right(
    client: httpx.Client, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert allowed in answer.headers["allow"]
    assert allowed in answer.json()["detail"]
