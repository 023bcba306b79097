"""The OpenAPI document holds against the running service: what it describes is what happens."""

from typing import Any, Final

import httpx2 as httpx
import pytest
import schemathesis
from fakes import FakeEngine
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.specs.openapi import checks

from app.main import create_app
from app.settings import Settings

SCHEMA: Final = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
# Whether a body is accepted is not the schema's to say: none describes the bytes of a picture.
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
