"""`POST /predict`: one picture in, the probability of every class out."""

from time import perf_counter
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from app import errors
from app.api import parameters, problems, schemas, upload
from app.api.answers import answer, written
from app.api.deadline import PARAMETER as TIMEOUT
from app.api.deadline import deadline
from app.api.dependencies import Decoder, Serving, Settings
from app.api.schemas import Classification
from app.api.whole import WholeResponse
from app.classification import classify

PATH: Final = "/predict"
_TIMING: Final = (
    "read;dur=%.2f, decode;dur=%.2f, queue;dur=%.2f, infer;dur=%.2f, encode;dur=%.2f, total;dur=%.2f"
)

router = APIRouter(tags=["predict"])

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
REQUEST_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "The picture, as the field `file` of a form or as the body itself.",
    "content": {
        upload.FORM: {
            "schema": {
                "type": "object",
                "required": [upload.FIELD],
                "properties": {upload.FIELD: _BINARY["schema"]},
            }
        },
        "image/*": _BINARY,
        upload.BYTES: _BINARY,
    },
}
_SAMPLES: Final = [
    {"lang": "curl", "source": "curl -F file=@cat.jpg http://127.0.0.1:8000/predict"},
    {
        "lang": "curl",
        "source": "curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/predict",
    },
]
REFUSALS: Final = (
    errors.MissingFileError(f"The form has no field 'file'. {upload.HOW}"),
    errors.EmptyFileError(f"The file has no bytes. {upload.HOW}"),
    errors.SeveralFilesError(f"The form has 2 files. {upload.ONE_BY_ONE}"),
    errors.MalformedBodyError("The body is not the multipart form that its content type announces."),
    errors.BodyTimeoutError("The body did not arrive within 30 s.", limit=30),
    errors.BodyTooLargeError(
        "The body may have at most 20,971,520 bytes; 31457280 bytes were announced.",
        limit=20_971_520,
        received=31_457_280,
    ),
    errors.PictureTooLargeError(
        "The picture is 25000 x 400 pixels; a side may have at most 20,000.", limit=20_000, received=25_000
    ),
    errors.PictureTooComplexError("The picture has more than 100 scans.", limit=100, received=101),
    errors.MediaTypeError("A picture comes as multipart/form-data, or as the body itself."),
    errors.UnsupportedFormatError("The 1,024 bytes are not a picture in a format that is decoded here."),
    errors.BrokenPictureError("The picture is broken: its data ends early or does not decode."),
    errors.EngineError("The engine failed on this picture."),
    errors.NotReadyError("The model resnet18-cifar10 is being loaded."),
    errors.DeadlineError("There was no answer within 30 s."),
)
_ANSWERS: Final = schemas.documented("a cat", schemas.CLASSIFICATION) | problems.documented(
    *REFUSALS,
    errors.ParameterError("top_k must be a whole number from 1 to 10; 11 was received."),
    errors.OverloadedError("256 pictures wait for the model and at most 256 may; this request adds 1."),
)


@router.post(
    PATH,
    summary="Classify a picture",
    response_model=Classification,
    responses=_ANSWERS,
    openapi_extra={
        "parameters": [*parameters.ALL, TIMEOUT],
        "requestBody": REQUEST_BODY,
        "x-codeSamples": _SAMPLES,
    },
)
async def predict(request: Request, serving: Serving, decoder: Decoder, settings: Settings) -> Response:
    """The picture is turned upright, put on white where transparent, made sRGB, and resized as `fit` says.

    `image.notes` names what is special about it. `confidence_set` and `in_distribution` say how far to trust
    the answer, where the version was calibrated.

    `Server-Timing` in the answer says where the time went, in milliseconds.
    """
    with serving.live.held() as model:
        began = perf_counter()
        wanted = parameters.Wanted.of(request, model.manifest, settings)
        data = await upload.read_picture(request, settings.body_timeout_s)
        arrived = perf_counter()
        async with deadline(request, settings):
            classified = await classify(data, model, decoder, wanted.fit)
            classified_at = perf_counter()
            body = written(await answer(classified, wanted))
            encode_s = perf_counter() - classified_at
        request.app.state.metrics.took("encode", encode_s)
        request.app.state.feedback.remember(problems.request_id_of(request), classified)
        request.app.state.shadow.look(classified)
        result = classified.result
        spent_s = (
            arrived - began,
            classified.decode_s,
            result.queued_s,
            result.infer_s,
            encode_s,
            perf_counter() - began,
        )
    timing = _TIMING % tuple(1000 * seconds for seconds in spent_s)
    return WholeResponse(body, timing)
