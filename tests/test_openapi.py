"""The OpenAPI document holds against the running service: what it describes is what happens."""

import json
from collections.abc import Iterator
from typing import Any, Final

import httpx2 as httpx
import pytest
import schemathesis
from conftest import serve
from fakes import MODEL, FakeEngine, publish_fake
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from schemathesis import Case
from schemathesis.specs.openapi import checks

from app.api.deadline import HEADER
from app.main import create_app
from app.repository import Repository
from app.settings import Settings

KEY: Final = "a key of the tests"
MANAGED: Final = create_app(Settings(admin_key=SecretStr(KEY))).openapi()
SCHEMA: Final = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
# Whether a body is accepted is not the schema's to say: none describes the bytes of a picture.
MANAGING: Final = schemathesis.openapi.from_dict(MANAGED).include(
    lambda context: "security" in context.operation.definition.raw
)
CHECKS: Final = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
NOT_JSON: Final = [
    b"",
    b"NaN",
    b'{"instances": [NaN]}',
    b'{"instances": [Infinity]}',
    b'{"instances": [1e999]}',
    b'{"instances": [[' + b"9" * 5_000 + b"]]}",
    b'{"instances": ["\\ud800"]}',
    b'{"instances": [{"b64": "\\ud800"}]}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"instances": "\xff\xfe"}',
    b'{"inputs": [{"name": "images", "shape": [NaN], "datatype": "UINT8", "data": [1e999]}]}',
    b'{"inputs": [{"name": "images", "shape": [-1, 99999999999], "datatype": "UINT8", "data": []}]}',
    b"null",
    b"0",
    b'"text"',
]


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client without the key of a service that has one."""
    repository = Repository(tmp_path_factory.mktemp("managed"))
    publish_fake(repository)
    settings = Settings(model_root=repository.root, model_name=MODEL, admin_key=SecretStr(KEY))
    with serve(settings, FakeEngine()) as client:
        yield client


@schemathesis.serializer("image/*")
def image(_: object, value: object) -> bytes:
    """Schemathesis knows no pictures: any bytes must do."""
    return value if isinstance(value, bytes) else str(value).encode()


@SCHEMA.parametrize()
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_whatever_the_document_allows_is_answered_as_it_says(
    case: Case[Any], shared_service: tuple[httpx.Client, FakeEngine]
) -> None:
    answer = case.call(base_url=str(shared_service[0].base_url))
    # A caller may ask for an answer within a millisecond and be told that there is none: that is a 504.
    assert answer.status_code != 500
    case.validate_response(answer, checks=CHECKS)


@MANAGING.parametrize()
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_who_manages_is_answered_as_the_document_says(case: Case[Any], managed: httpx.Client) -> None:
    case.headers["Authorization"] = f"Bearer {KEY}"  # which some cases leave out all the same
    case.path_parameters["name"] = MODEL
    answer = case.call(base_url=str(managed.base_url))
    assert answer.status_code != 500
    case.validate_response(answer, checks=CHECKS)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path with the names of the tests in it, and what is said of each."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path.format(name=MODEL, version="1", label="stable"), operation


def test_the_document_says_which_calls_need_the_key(managed: httpx.Client) -> None:
    document = managed.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["admin_key"]["scheme"] == "bearer"
    keyed = {
        (method, path)
        for method, path, operation in operations(document)
        if operation.get("security") == [{"admin_key": []}]
    }
    refused = {
        (method, path)
        for method, path, _ in operations(document)
        if managed.request(method, path).status_code == 401
    }
    assert keyed == refused
    assert len(keyed) == 7


def test_where_there_is_no_key_the_document_has_no_call_that_needs_one(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    assert not [path for path in document["paths"] if path.endswith(("/load", "/unload"))]
    assert not [path for _, path, operation in operations(document) if "security" in operation]


def test_the_document_says_which_calls_have_a_deadline(client: httpx.Client) -> None:
    for method, path, operation in operations(client.get("/openapi.json").json()):
        body, kind = content(operation.get("requestBody", {}).get("content", {}))
        headers = {HEADER: "soon"} | ({"Content-Type": kind} if kind else {})
        answer = client.request(method, path, content=body, headers=headers)
        takes_it = HEADER in {parameter["name"] for parameter in operation.get("parameters", ())}
        assert takes_it == (answer.status_code == 400 and HEADER in answer.text), (method, path)


def content(kinds: dict[str, Any]) -> tuple[bytes, str]:
    """Some bytes of a body as far as the deadline is looked at, and their type."""
    for example in kinds.get("application/json", {}).get("examples", {}).values():
        return json.dumps(example["value"]).encode(), "application/json"
    return b"x", "image/png" if "image/*" in kinds else ""


@pytest.mark.parametrize(
    "path", ["/v1/models/colours:predict", "/v1/models/colours:classify", "/v2/models/colours/infer"]
)
@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: body[:30].decode("latin-1"))
def test_json_that_means_nothing_is_the_fault_of_its_sender(
    client: httpx.Client, path: str, body: bytes
) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "query",
    [
        "top_k=nan",
        "top_k=1e999",
        "top_k=%ff",
        "top_k=%ED%A0%80",
        "top_k=" + "9" * 5_000,
        "fit=%00",
        "fit=zoom",
        "top_k=1&top_k=nan",
    ],
)
def test_a_query_that_means_nothing_is_the_fault_of_its_sender(client: httpx.Client, query: str) -> None:
    answer = client.post("/predict?" + query, content=b"x", headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert "nan" not in answer.json()["detail"]
