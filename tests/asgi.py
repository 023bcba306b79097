"""Requests without a socket, for what an HTTP client cannot do: withhold a body, or leave half-way."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from fakes import MODEL, FakeEngine
from fastapi import FastAPI

from app.main import create_app
from app.model import State
from app.settings import Settings

Message = MutableMapping[str, Any]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """What the error says, in whichever form."""
        found = json.loads(self.body)
        return str(found["error"] if "error" in found else found["detail"])


class WayIn(NamedTuple):
    """A route that classifies, and how it wants pictures; the first takes one."""

    path: str
    template: str
    content_type: str
    pack: Callable[..., bytes]


def _form(*pictures: bytes) -> bytes:
    head = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return b"".join([head + picture + b"\r\n" for picture in pictures]) + b"--limit--\r\n"


def _base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def _instances(*pictures: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": _base64(picture)} for picture in pictures]}).encode()


def _examples(*pictures: bytes) -> bytes:
    return json.dumps(
        {"examples": [{"image_bytes": {"b64": _base64(picture)}} for picture in pictures]}
    ).encode()


def _tensor(*pictures: bytes) -> bytes:
    data = [_base64(picture) for picture in pictures]
    return json.dumps(
        {"inputs": [{"name": "image_bytes", "shape": [len(data)], "datatype": "BYTES", "data": data}]}
    ).encode()


WAYS_IN = (
    WayIn("/predict", "/predict", "image/png", lambda picture: picture),
    WayIn("/predict/batch", "/predict/batch", "multipart/form-data; boundary=limit", _form),
    WayIn(f"/v1/models/{MODEL}:predict", "/v1/models/{name}:predict", "", _instances),
    WayIn(
        f"/V1/models/{MODEL}/versions/1:Classify",
        "/v1/models/{name}/versions/{version}:classify",
        "",
        _examples,
    ),
    WayIn(f"/v2/models/{MODEL}/infer", "/v2/models/{name}/infer", "", _tensor),
)


@asynccontextmanager
async def ready(settings: Settings, engine: FakeEngine) -> AsyncIterator[FastAPI]:
    """The application, started, with its model live and nothing in the engine's record."""
    app = create_app(settings, lambda *_: engine)
    async with app.router.lifespan_context(app):
        while app.state.serving.state is State.LOADING:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        engine.batches.clear()
        yield app


async def unread() -> Message:
    raise AssertionError("the body was asked for")


def sent(body: bytes, left: asyncio.Event | None = None) -> Callable[[], Awaitable[Message]]:
    """A client that sends a body and then waits, until it has `left`."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await (left or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    return receive


async def call(
    app: FastAPI,
    path: str,
    receive: Callable[[], Awaitable[Message]],
    method: str = "POST",
    root_path: str = "",
    **headers: str,
) -> Answer:
    """Names of headers are written with underscores; `root_path` is the part of `path` a proxy adds."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": root_path,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    fields = {name.decode().lower(): value.decode() for name, value in messages[0]["headers"]}
    return Answer(messages[0]["status"], fields, b"".join(each.get("body", b"") for each in messages))


async def classify(app: FastAPI, way_in: WayIn, *pictures: bytes, **headers: str) -> Answer:
    """Sends pictures the way that this route wants them."""
    body = way_in.pack(*pictures)
    given = {"content_type": way_in.content_type, "content_length": str(len(body))} | headers
    return await call(app, way_in.path, sent(body), **given)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that happens elsewhere."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
