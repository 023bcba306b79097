"""The answer to an inference request in Open Inference Protocol, as JSON or with binary tensors behind it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray

from app.api import decimals, oip_binary
from app.api.oip_request import InferRequest, Output
from app.engines import Prediction
from app.manifest import Manifest
from app.model import Model


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output; `flat` are its elements, `packed` the same in binary form."""

    shape: Sequence[int]
    datatype: str
    flat: list[Any]
    packed: bytes


def parameters(model: Model) -> dict[str, str]:
    """What answered, as far as the protocol has no field for it."""
    engine = {"engine": model.engine.name, "precision": model.engine.precision}
    return engine | ({"fallback": model.fallback} if model.fallback else {})


def infer(request: InferRequest, prediction: Prediction, model: Model) -> Response:
    """The outputs that were asked for, each in the form that was asked for."""
    manifest = model.manifest
    described: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for output in request.outputs:
        tensor = tensor_of(output, prediction, manifest)
        head: dict[str, Any] = {"name": output.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        if output.binary:
            described.append(head | {"parameters": {"binary_data_size": len(tensor.packed)}})
            tail.append(tensor.packed)
        else:
            described.append(head | {"data": tensor.flat})
    named = {} if request.id is None else {"id": request.id}
    answering = {"model_name": manifest.name, "model_version": str(manifest.version)}
    document = json.dumps(
        answering | named | {"parameters": parameters(model), "outputs": described}
    ).encode()
    if not tail:
        return Response(document, media_type="application/json")
    return Response(
        document + b"".join(tail),
        media_type="application/octet-stream",
        headers={oip_binary.HEADER: str(len(document))},
    )


def tensor_of(output: Output, prediction: Prediction, manifest: Manifest) -> Tensor:
    """What was asked for of a prediction: its numbers, or the names and numbers of its best classes."""
    values: NDArray[np.float32] = getattr(prediction, output.name)
    names = manifest.class_names
    if not output.classes:
        packed = values.astype("<f4").tobytes()
        return Tensor(values.shape, "FP32", decimals.shortest(values), packed)
    best = np.argsort(-values, axis=1, kind="stable")[:, : output.classes]
    texts = [
        f"{row[index]:f}:{index}:{names[index]}"
        for row, order in zip(values, best, strict=True)
        for index in order
    ]
    return Tensor(best.shape, "BYTES", texts, oip_binary.pack(text.encode() for text in texts))
