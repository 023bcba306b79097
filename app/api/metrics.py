"""`GET /metrics`: what Prometheus reads, and what it is told about the present."""

from functools import partial
from typing import Final

from fastapi import APIRouter, Request, Response

from app import metrics
from app.decoding import Decoder
from app.errors import NotReadyError
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
    """Lets metrics say how much waits and which version answers."""
    found.watch(
        {"decode": lambda: decoder.waiting, "queue": lambda: _queued(serving)}, partial(_live, serving)
    )


def _queued(serving: Serving) -> int:
    try:
        return serving.live.queued
    except NotReadyError:
        return 0


def _live(serving: Serving) -> dict[str, str] | None:
    try:
        model = serving.live
    except NotReadyError:
        return None
    return {
        "model": model.manifest.name,
        "version": str(model.manifest.version),
        "engine": model.engine.name,
        "precision": model.engine.precision,
    }
