"""`/docs`: the OpenAPI document as a page that needs no other host."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from app.api import address, call_section, calls, problems
from app.api.calls import Call
from app.api.page import page

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> Response:
    return page("API", _document(request.app, address.of(request)))


def _document(app: FastAPI, here: str) -> Iterator[str]:
    tags = calls.by_tag(app.openapi())
    yield f'<p>{escape(app.description)} <a href="{app.openapi_url}">OpenAPI document</a></p>'
    yield from _contents(tags)
    yield "<div>"
    for tag, members in tags.items():
        yield f"<h2>{_heading(tag)}</h2>"
        for call in members:
            yield from call_section.section(call, _title(tag, call), here)
    yield from _errors(app.openapi())
    yield '<a class="up" href="#calls">All calls</a></div>'


def _contents(tags: Mapping[str, Sequence[Call]]) -> Iterator[str]:
    yield '<nav id="calls" aria-label="Calls">'
    for tag, members in tags.items():
        yield f"<p>{_heading(tag)}</p><ul>"
        for call in members:
            link = f'<a href="#{call.anchor}">{call_section.code(call.name)}</a>'
            yield f"<li>{link} {escape(_title(tag, call))}</li>"
        yield "</ul>"
    yield '<p><a href="#errors">Errors</a></p></nav>'


def _heading(tag: str) -> str:
    return escape(tag[:1].upper() + tag[1:])


def _title(tag: str, call: Call) -> str:
    """Without the protocol, which stands above."""
    title: str = call.operation["summary"].removeprefix(f"{tag}: ")
    return title[:1].upper() + title[1:]


def _errors(document: Mapping[str, Any]) -> Iterator[str]:
    """Each once, under its code, as the first call that may give it would."""
    announced = dict(reversed([*_announced(document)]))
    shown = [*announced.values(), *(problem.model_dump() for problem in problems.everywhere())]
    yield '<h2 id="errors">Errors</h2>'
    for value in sorted(shown, key=lambda value: (value["status"], value["code"])):
        code = escape(value["code"])
        yield f"<h3 id='{code}'>{value['status']} {code}</h3>"
        yield call_section.folded(escape(value["detail"]), value)


def _announced(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Code and example of every problem that a call may give."""
    for members in calls.by_tag(document).values():
        for answer in (answer for call in members for answer in call.operation["responses"].values()):
            examples = answer.get("content", {}).get(problems.MEDIA_TYPE, {}).get("examples", {})
            yield from ((code, example["value"]) for code, example in examples.items())
