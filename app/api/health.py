"""Probes for orchestrators: `/livez` never touches the model, `/readyz` is about nothing else."""

from fastapi import APIRouter

from app.api import problems
from app.api.dependencies import Serving
from app.api.schemas import Health, Readiness, documented
from app.errors import NotReadyError
from app.model import State

router = APIRouter(tags=["health"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Is the process alive?", responses=documented("live", {"status": "live"}))
async def livez() -> Health:
    """Answers as long as the event loop turns; a failure means: restart the process."""
    return Health(status="live")


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Can it answer?",
    responses=documented("ready", {"status": "ready", "engine": "openvino", "precision": "int8"})
    | problems.documented(NotReadyError("The model resnet18-cifar10 is being loaded.")),
)
async def readyz(serving: Serving) -> Readiness:
    """200 once a version is loaded, proven and warm; 503 and the reason before that and in shutdown."""
    if serving.state is not State.READY:
        raise NotReadyError(serving.reason)
    model = serving.live
    return Readiness(
        status="ready",
        engine=model.engine.name,
        precision=model.engine.precision,
        fallback=model.fallback,
    )
