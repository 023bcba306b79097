"""`GET /metrics`: what Prometheus reads, and what it is told about the present."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from fastapi import APIRouter, Request, Response

from app import metrics
from app.decoding import Decoder
from app.errors import NotReadyError
from app.model import Model, State
from app.serving import Serving

router = APIRouter(tags=["health"])

_EXAMPLE: Final = 'classifier_requests_total{route="/predict",method="POST",status="200"} 1027.0'


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "content": {
                "text/plain": {"schema": {"type": "string"}, "examples": {"a line": {"value": _EXAMPLE}}}
            }
        }
    },
)
async def read(request: Request) -> Response:
    """Answers whatever the load, as the probes do."""
    found: metrics.Metrics = request.app.state.metrics
    return Response(found.render(), media_type=metrics.CONTENT_TYPE)


def watch(found: metrics.Metrics, serving: Serving, decoder: Decoder) -> None:
    """Lets metrics say how much waits and which versions there are."""
    found.watch(
        {
            "decode": lambda: decoder.waiting,
            "queue": lambda: sum(model.queued for model in _ready(serving)),
            "background": lambda: sum(model.background for model in _ready(serving)),
        },
        lambda: serving.state in (State.READY, State.DRAINING),
        partial(_live, serving),
        partial(_versions, serving),
    )


def _ready(serving: Serving) -> Iterator[Model]:
    return (model for versions in serving.models.values() for model in versions.residents.ready.values())


def _live(serving: Serving) -> Iterator[dict[str, str]]:
    for versions in serving.models.values():
        with suppress(NotReadyError):
            model = versions.live
            yield {
                "model": model.manifest.name,
                "version": str(model.manifest.version),
                "engine": model.engine.name,
                "precision": model.engine.precision,
            }


def _versions(serving: Serving) -> Iterator[dict[str, str]]:
    for versions in serving.models.values():
        for number, status in versions.known().items():
            if status.state is not State.AVAILABLE:
                yield {"model": versions.name, "version": str(number), "state": status.state}
