"""One call in the documentation: what it takes and what it answers."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from app.api import address, parameter_table, problems
from app.api.calls import Call
from app.api.prose import prose

_FIRST_ERROR: Final = 400


def section(call: Call, title: str, here: str) -> Iterator[str]:
    """HTML; commands in it go to `here`."""
    operation = call.operation
    yield f'<section><h3 id="{call.anchor}">{code(call.name)} {escape(title)}</h3>'
    if also := ", ".join(map(code, call.paths[1:])):
        yield f"<p>Also: {also}</p>"
    yield f"<p>{prose(operation['description'])}</p>"
    for sample in operation.get("x-codeSamples", ()):
        yield f"<pre>{escape(sample['source'].replace(address.SAMPLE, here))}</pre>"
    if call.parameters:
        yield f"<h4>Parameters</h4>{parameter_table.table(call.parameters)}"
    if body := operation.get("requestBody"):
        yield from _body(body)
    yield from _answers(operation["responses"])
    yield "</section>"


def code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def folded(title: str, value: Any) -> str:
    """An example that whoever wants it opens; `title` is HTML."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f"<details><summary>{title}</summary><pre>{escape(text)}</pre></details>"


def _body(body: Mapping[str, Any]) -> Iterator[str]:
    kinds = ", ".join(_kind(kind, content["schema"]) for kind, content in body["content"].items())
    yield f"<h4>Body</h4><p>{prose(body['description'])} Content types: {kinds}.</p>"
    for content in body["content"].values():
        for name, example in content.get("examples", {}).items():
            yield folded(f"Example: {escape(name)}", example["value"])


def _kind(kind: str, schema: Mapping[str, Any]) -> str:
    meaning = schema.get("description")
    return code(kind) + (f" ({prose(meaning)})" if meaning else "")


def _answers(responses: Mapping[str, Any]) -> Iterator[str]:
    yield "<h4>Answers</h4>"
    statuses = sorted(responses)
    for status in (each for each in statuses if int(each) < _FIRST_ERROR):
        yield from _good(status, responses[status])
    refused = (_refused(each, responses[each]) for each in statuses if int(each) >= _FIRST_ERROR)
    if lines := "".join(refused):
        yield f"<ul>{lines}</ul>"


def _good(status: str, answer: Mapping[str, Any]) -> Iterator[str]:
    examples = [
        (name, example["value"])
        for content in answer.get("content", {}).values()
        for name, example in content.get("examples", {}).items()
    ]
    yield from (folded(f"{status}: {escape(name)}", value) for name, value in examples)
    if not examples:
        yield f"<p>{status}: {escape(answer['description'])}</p>"


def _refused(status: str, answer: Mapping[str, Any]) -> str:
    """Links to our own errors; those of other protocols as they are answered."""
    reasons = [
        f'<a href="#{escape(name)}">{escape(name)}</a>'
        if kind == problems.MEDIA_TYPE
        else code(json.dumps(example["value"]))
        for kind, content in answer["content"].items()
        for name, example in content["examples"].items()
    ]
    return f"<li>{status}: {', '.join(reasons)}</li>"
