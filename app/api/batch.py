"""`POST /predict/batch`: several pictures in one form; each gets its answer or its own error, in order."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from app import errors
from app.api import answers, parameters, problems, schemas, upload
from app.api.admission import Gate, Reservation
from app.api.deadline import PARAMETER as TIMEOUT
from app.api.deadline import deadline, timeout_s
from app.api.dependencies import Decoder, Serving, Settings
from app.api.parameters import Wanted
from app.api.schemas import BatchResult, PlacedProblem
from app.api.timing import server_timing
from app.classification import classify
from app.errors import BodyTooLargeError, EmptyFileError, EngineError, PictureError, UploadError
from app.feedback import Feedback
from app.model import Model
from app.shadow import Shadow

PATH: Final = "/predict/batch"

Result = answers.Document | PlacedProblem

router = APIRouter(tags=["predict"])

# One request must not fill the queues, or single pictures would wait behind all of it.
_AT_ONCE: Final = 16

_REQUEST_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "The pictures, each as a field `file` of one form.",
    "content": {
        upload.FORM: {
            "schema": {
                "type": "object",
                "required": [upload.FIELD],
                "properties": {
                    upload.FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}
                },
            }
        }
    },
}
_SAMPLES: Final = [
    {"lang": "curl", "source": f"curl -F file=@cat.jpg -F file=@dog.jpg http://127.0.0.1:8000{PATH}"}
]
_BROKEN: Final = errors.BrokenPictureError("The picture is broken: its data ends early or does not decode.")
_RESULT: Final = {
    "results": [
        {"index": 0, **schemas.CLASSIFICATION},
        {"index": 1, "error": problems.of(_BROKEN, "6f1c2a9be2d84f7d9a55c4d0a7a1e3b2").model_dump()},
    ],
    "succeeded": 1,
    "failed": 1,
}
_ANSWERS: Final = schemas.documented("a cat and a broken file", _RESULT) | problems.documented(
    errors.MissingFileError(
        f"The form has 0 files in fields called 'file' and 1 in others. {upload.HOW_SEVERAL}"
    ),
    errors.MalformedBodyError("The body is not the multipart form that its content type announces."),
    errors.ParameterError("top_k must be a whole number from 1 to 10; 11 was received."),
    errors.BodyTimeoutError("The body did not arrive within 30 s."),
    errors.BodyTooLargeError(
        "The body may have at most 104,857,600 bytes; 209715200 bytes were announced.",
        limit=104_857_600,
        received=209_715_200,
    ),
    errors.TooManyFilesError(
        "The form has 150 files; at most 100 are taken. Send several requests.", limit=100, received=150
    ),
    errors.MediaTypeError(f"Several pictures come as multipart/form-data. {upload.HOW_SEVERAL}"),
    errors.NotReadyError("The model resnet18-cifar10 is being loaded."),
    errors.OverloadedError("256 pictures wait for the model and at most 256 may; this request adds 1."),
    errors.DeadlineError("There was no answer within 30 s."),
)


@router.post(
    PATH,
    summary="Classify several pictures",
    response_model=BatchResult,
    responses=_ANSWERS,
    openapi_extra={
        "parameters": [*parameters.ALL, TIMEOUT],
        "requestBody": _REQUEST_BODY,
        "x-codeSamples": _SAMPLES,
    },
)
async def predict_batch(request: Request, serving: Serving, decoder: Decoder, settings: Settings) -> Response:
    """Every file gets what `/predict` would answer, or `error`, a problem of its own, and harms no other.

    The status is 200 even if some or all pictures have errors; `failed` counts them. A request that is
    refused, for instance because too much is waiting, is refused whole: no part of it has an answer.
    """
    with serving.live.held() as model:
        began = perf_counter()
        wanted = parameters.Wanted.of(request, model.manifest, settings)
        files = await upload.read_pictures(request, settings.body_timeout_s, settings.max_upload_files)
        arrived = perf_counter()
        answer = partial(
            _answer,
            model=model,
            decoder=decoder,
            wanted=wanted,
            max_bytes=settings.max_body_bytes,
            request_id=problems.request_id_of(request),
            feedback=request.app.state.feedback,
            shadow=request.app.state.shadow,
        )
        gate: Gate = request.app.state.gate
        places = gate.reserve(len(files), model, decoder, timeout_s(request.scope, settings))
        with places:
            async with deadline(request, settings):
                results = await _each(files, answer, places)
        answered = perf_counter()
        failed = sum(isinstance(result, PlacedProblem) for result in results)
        body = answers.written({"results": results, "succeeded": len(results) - failed, "failed": failed})
    ended = perf_counter()
    request.app.state.metrics.took("encode", ended - answered)
    timing = server_timing(read=arrived - began, encode=ended - answered, total=ended - began)
    return Response(body, media_type="application/json", headers=timing)


async def _each(
    files: list[bytes], answer: Callable[[int, bytes], Awaitable[Result]], places: Reservation
) -> list[Result]:
    """The answers in order, some of them worked on at the same time; what one raises ends them all."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(index: int, data: bytes) -> Result:
        async with turn:
            places.take()
            return await answer(index, data)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(*item)) for item in enumerate(files)]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _answer(
    index: int,
    data: bytes,
    *,
    model: Model,
    decoder: Decoder,
    wanted: Wanted,
    max_bytes: int,
    request_id: str,
    feedback: Feedback,
    shadow: Shadow,
) -> Result:
    try:
        _check(data, max_bytes)
        classified = await classify(data, model, decoder, wanted.fit, reserved=True)
    except (UploadError, PictureError, EngineError) as error:
        if isinstance(error, EngineError) and not model.alive:
            raise
        return PlacedProblem(index=index, error=problems.of(error, request_id))
    feedback.remember(request_id, classified, index)
    shadow.look(classified)
    return {"index": index, **await answers.answer(classified, wanted)}


def _check(data: bytes, max_bytes: int) -> None:
    if not data:
        raise EmptyFileError("The file has no bytes.")
    if len(data) > max_bytes:
        raise BodyTooLargeError(
            f"The file has {len(data):,} bytes; a picture may have at most {max_bytes:,}.",
            limit=max_bytes,
            received=len(data),
        )
