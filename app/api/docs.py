"""`/docs`: the OpenAPI document as a page that needs no other host."""

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response

from app.api import address, problems
from app.api.page import page

router = APIRouter(include_in_schema=False)

_CODE: Final = re.compile(r"`([^`]+)`")


@router.get("/docs")
async def docs(request: Request) -> Response:
    return page("API", _document(request.app, address.of(request)))


def _document(app: FastAPI, here: str) -> Iterator[str]:
    paths = app.openapi()["paths"]
    yield f'<p>{escape(app.description)} <a href="{app.openapi_url}">OpenAPI document</a></p>'
    errors: dict[str, Any] = {}
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield from _operation(f"{method.upper()} {path}", operation, here)
            for answer in operation["responses"].values():
                errors |= answer.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", {})
    yield "<h2>Errors</h2>"
    examples = [example["value"] for example in errors.values()]
    for value in [*examples, *(problem.model_dump() for problem in problems.everywhere())]:
        code = escape(value["code"])
        yield f"<h3 id='{code}'>{value['status']} {code}</h3>{_json(value)}"


def _operation(title: str, operation: dict[str, Any], here: str) -> Iterator[str]:
    yield f"<h2><code>{escape(title)}</code> {escape(operation['summary'])}</h2>"
    yield f"<p>{_prose(operation['description'])}</p>"
    for sample in operation.get("x-codeSamples", ()):
        yield f"<pre>{escape(sample['source'].replace(address.SAMPLE, here))}</pre>"
    if body := operation.get("requestBody"):
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in body["content"])
        yield f"<p>{_prose(body['description'])} Content types: {kinds}.</p>"
    for status, answer in sorted(operation["responses"].items()):
        yield from _answer(status, answer.get("content", {}))


def _answer(status: str, content: dict[str, Any]) -> Iterator[str]:
    for kind, body in content.items():
        if kind == problems.MEDIA_TYPE:
            links = ", ".join(f'<a href="#{escape(code)}">{escape(code)}</a>' for code in body["examples"])
            yield f"<p>{status}: {links}</p>"
        else:
            yield from (f"<p>{status}:</p>{_json(example['value'])}" for example in body["examples"].values())


def _prose(text: str) -> str:
    """Paragraphs, and code between backticks, as Markdown has them."""
    return _CODE.sub(r"<code>\1</code>", escape(text)).replace("\n\n", "</p><p>")


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
