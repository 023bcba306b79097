"""`/docs`: whoever reads it finds every call, and at each of them what it takes."""

import re
from collections import Counter
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx2 as httpx
import pytest
from conftest import serve
from fakes import MODEL, FakeEngine, publish_fake
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.api import docs
from app.api.parameter_table import kind
from app.api.prose import prose
from app.repository import Repository
from app.settings import Settings

KEY_ROW = [
    "Authorization",
    "header",
    "text",
    "required",
    "The key in CLASSIFIER_ADMIN_KEY, as Authorization: Bearer KEY.",
]


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service with every call that there is."""
    repository = Repository(tmp_path_factory.mktemp("managed"))
    publish_fake(repository)
    settings = Settings(
        model_root=repository.root, model_name=MODEL, admin_key=SecretStr("a key of the tests")
    )
    with serve(settings, FakeEngine()) as client:
        yield client


@pytest.fixture(scope="module")
def document(managed: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = managed.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def page(managed: httpx.Client) -> str:
    return managed.get("/docs").text


def sections(page: str) -> list[str]:
    return re.findall(r"<section>.*?</section>", page, re.DOTALL)


def rows(section: str) -> list[list[str]]:
    """The cells of every row, without their tags."""
    found = re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)
    return [[text(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in found]


def text(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


def calls(section: str) -> set[str]:
    """What stands in its title, and under `Also`."""
    title = re.search(r'<h3 id="[^"]+"><code>(\S+) (\S+)</code>', section)
    also = re.search(r"<p>Also: (.*?)</p>", section)
    assert title
    paths = [title[2], *(re.findall(r"<code>(.*?)</code>", also[1]) if also else ())]
    return {f"{title[1]} {path}" for path in paths}


def section_of(page: str, call: str) -> str:
    (found,) = (section for section in sections(page) if call in calls(section))
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        yield from ((f"{method.upper()} {path}", operation) for method, operation in item.items())


def test_every_call_says_what_it_takes(document: dict[str, Any], page: str) -> None:
    for call, operation in operations(document):
        takes = rows(section_of(page, call))
        for parameter in operation.get("parameters", ()):
            required = "required" if parameter["required"] else "optional"
            meaning = text(prose(parameter["description"]))
            row = [parameter["name"], parameter["in"], kind(parameter["schema"]), required, meaning]
            assert row in takes, call
        assert (KEY_ROW in takes) == ("security" in operation), call


def test_a_parameter_has_its_bounds_values_and_default_in_words(page: str) -> None:
    assert [row[:4] for row in rows(section_of(page, "POST /predict"))] == [
        ["Name", "In", "Type", "Required"],
        ["top_k", "query", "whole number, at least 1", "optional"],
        ["fit", "query", "squash or crop, default squash", "optional"],
        ["coverage", "query", "number, more than 0, less than 1", "optional"],
        ["input", "query", "true or false, default false", "optional"],
        ["X-Request-Timeout-Ms", "header", "whole number, at least 1", "optional"],
    ]


def test_the_list_at_the_top_leads_to_every_call(document: dict[str, Any], page: str) -> None:
    listed = page.partition("</nav>")[0]
    titles = re.findall(r'<a href="#([^"]+)"><code>(\S+ \S+)</code></a>', listed)
    assert [f'<h3 id="{anchor}"><code>{call}</code>' for anchor, call in titles] == re.findall(
        r'<h3 id="[^"]+"><code>[^<]+</code>', page
    )
    assert page.index("</nav>") < page.index("<section>")
    assert {section_of(page, call) for call, _ in operations(document)} == set(sections(page))
    anchors = [anchor for anchor, _ in titles]
    assert {"post-predict", "put-models-name-live", "post-v2-models-name-infer"} <= set(anchors)


def test_every_link_within_the_page_leads_to_one_place(page: str) -> None:
    places = Counter(re.findall(r"\bid=[\"']([^\"']+)", page))
    assert max(places.values()) == 1
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(places)


def test_calls_of_the_admin_key_are_shown_where_there_is_one(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assert "Authorization" not in page
    assert "Promote" not in page


def described(summary: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    words = {"tags": ["colours"], "summary": summary, "description": "", "responses": {}}
    return {**words, "parameters": parameters}


def parameter(name: str, place: str, meaning: str) -> dict[str, Any]:
    return {"name": name, "in": place, "description": meaning, "schema": {"type": "string"}}


class Colours(FastAPI):
    """Calls that share parameters, as a document may say once for a path."""

    def openapi(self) -> dict[str, Any]:
        of_all = [parameter("name", "path", "of all"), parameter("shade", "query", "of all")]
        get = described("Look", parameter("shade", "query", "<of> `get`"))
        put = described("Paint", parameter("X-Coat", "header", "of put"))
        return {"paths": {"/colours/{name}": {"parameters": of_all, "get": get, "put": put}}}


def test_what_all_calls_at_an_address_take_is_shown_at_each_unless_one_says_something_else() -> None:
    app = Colours(docs_url=None)
    app.state.settings = Settings()
    app.include_router(docs.router)
    page = TestClient(app).get("/docs").text
    assert [(row[0], row[4]) for row in rows(section_of(page, "GET /colours/{name}"))[1:]] == [
        ("name", "of all"),
        ("shade", "<of> get"),
    ]
    assert "&lt;of&gt; <code>get</code>" in page
    assert [(row[0], row[4]) for row in rows(section_of(page, "PUT /colours/{name}"))[1:]] == [
        ("name", "of all"),
        ("shade", "of all"),
        ("X-Coat", "of put"),
    ]
