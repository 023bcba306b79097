"""What the service answers past the framework is what it answers through it."""

import json
from typing import Any

import pytest
from asgi import Answer, call, ready, sent
from conftest import Encode
from fakes import FakeEngine
from fastapi import FastAPI

from app.settings import Settings

pytestmark = pytest.mark.anyio


async def both_ways(app: FastAPI, body: bytes, **headers: str) -> tuple[Answer, Answer]:
    """The shortcut looks for the path as it is written; with a prefix in front the framework finds it."""
    given = {"content_type": "image/png", "x_request_id": "same"} | headers
    return (
        await call(app, "/predict", sent(body), **given),
        await call(app, "/behind/predict", sent(body), root_path="/behind", **given),
    )


def told(answer: Answer) -> tuple[int, set[str], Any]:
    return answer.status, set(answer.headers), json.loads(answer.body)


async def test_a_picture_has_one_answer(settings: Settings, encode: Encode) -> None:
    async with ready(settings, FakeEngine()) as app:
        short, long = await both_ways(app, encode("red"))
    assert told(short) == told(long)
    assert short.status == 200


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"no picture", {}),
        (b"", {}),
        (b"text", {"content_type": "text/plain"}),
        (b"--limit", {"content_type": "multipart/form-data; boundary=limit"}),
    ],
)
async def test_a_bad_request_has_one_answer(settings: Settings, body: bytes, headers: dict[str, str]) -> None:
    async with ready(settings, FakeEngine()) as app:
        short, long = await both_ways(app, body, **headers)
    assert told(short) == told(long)
    assert 400 <= short.status < 500


async def test_other_methods_are_the_frameworks(settings: Settings) -> None:
    async with ready(settings, FakeEngine()) as app:
        answer = await call(app, "/predict", sent(b""), method="PUT")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
