"""`POST /explain`: which part of a picture decided, for its label or any other."""

import base64
from time import perf_counter
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app import errors
from app.api import answers, parameters, predict, problems, schemas, upload
from app.api.deadline import PARAMETER as TIMEOUT
from app.api.deadline import deadline
from app.api.dependencies import Explainer, Serving, Settings
from app.api.schemas import ImageDescription, ModelReference
from app.api.timing import server_timing
from app.explanation import METHOD, Explanation

router = APIRouter(tags=["predict"])

_DECIMALS: Final = 4
_EXAMPLE: Final[dict[str, Any]] = {
    "label": "cat",
    "class_id": 3,
    "probability": 0.9731,
    "method": METHOD,
    "map": [[0.0, 0.12], [0.47, 1.0]],
    "overlay": "iVBORw0KGgo=",
    "model": schemas.CLASSIFICATION["model"],
    "image": schemas.CLASSIFICATION["image"],
}
_ANSWERS: Final = schemas.documented("a cat, its map cut short", _EXAMPLE) | problems.documented(
    *predict.REFUSALS,
    errors.ParameterError("label must be one of cat, dog; something else was received."),
    errors.OverloadedError("16 explanations are being worked on and at most 16 may.", limit=16, received=16),
)


class ExplanationAnswer(BaseModel):
    """What of one picture speaks for one class."""

    label: Annotated[str, Field(description="the class that is explained")]
    class_id: Annotated[int, Field(description="its place in the order of the classes, from 0")]
    probability: Annotated[float, Field(description="its probability for the whole picture, 0 to 1")]
    method: Annotated[str, Field(description="how the map was found")]
    map: Annotated[
        list[list[float]],
        Field(description="rows over what the network saw, from the top: 1 where it mattered most, 0 to 1"),
    ]
    overlay: Annotated[
        str, Field(description="PNG in base64: the picture itself, grey and dark where it did not matter")
    ]
    model: ModelReference
    image: ImageDescription


def _document(explanation: Explanation) -> answers.Document:
    """As `ExplanationAnswer` describes it."""
    return {
        "label": explanation.model.manifest.class_names[explanation.class_id],
        "class_id": explanation.class_id,
        "probability": explanation.probability,
        "method": METHOD,
        "map": [[round(value, _DECIMALS) for value in row] for row in explanation.importance.tolist()],
        "overlay": base64.b64encode(explanation.overlay).decode(),
        "model": answers.reference(explanation.model),
        "image": answers.image(explanation.picture),
    }


@router.post(
    "/explain",
    summary="Which part of a picture decided",
    response_model=ExplanationAnswer,
    responses=_ANSWERS,
    openapi_extra={
        "parameters": [parameters.LABEL, parameters.FIT, TIMEOUT],
        "requestBody": predict.REQUEST_BODY,
        "x-codeSamples": [
            {"lang": "curl", "source": "curl -F file=@cat.jpg 'http://127.0.0.1:8000/explain?label=cat'"}
        ],
    },
)
async def explain(request: Request, serving: Serving, explainer: Explainer, settings: Settings) -> Response:
    """Parts of the picture are blanked and the model is asked again, some seventy times.

    Predictions go first: the model is asked when it has nothing else to do, however long that takes.
    """
    with explainer.place(), serving.live.held() as model:
        began = perf_counter()
        class_id = parameters.label(request, model.manifest.class_names)
        fit = parameters.fit(request)
        data = await upload.read_picture(request, settings.body_timeout_s)
        async with deadline(request, settings):
            explanation = await explainer.explain(data, model, class_id, fit)
        body = answers.written(_document(explanation))
    timing = server_timing(total=perf_counter() - began)
    return Response(body, media_type="application/json", headers=timing)
