"""From a classification to the document that a request wants, as `schemas` describes it.

The documents are plain dictionaries. What was just computed here need not be checked field by field, which
would take as long as decoding a small picture; a test holds them to their description. Numbers of the engine
stay float32 until they are written, as the shortest decimals that still are the same float32 numbers.
"""

import asyncio
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson
from pydantic import BaseModel

from app.api.parameters import Wanted
from app.api.schemas import WEIGHTS_DIGITS, SeenInput
from app.classification import Classified
from app.imaging import Picture
from app.model import Model

Document = dict[str, Any]

_FLOAT32: Final = orjson.OPT_SERIALIZE_NUMPY


async def answer(classified: Classified, wanted: Wanted) -> Document:
    """The document; files that are wanted in it are written beside the event loop."""
    document = classification(classified, wanted.coverage)
    if wanted.with_input:
        seen = await asyncio.to_thread(SeenInput.of, classified.picture.pixels)
        document["input"] = seen.model_dump()
    if wanted.top_k is not None:
        document["top"] = _ranking(document["probabilities"])[: wanted.top_k]
    return document


def written(document: Document) -> bytes:
    """It as JSON; what it holds may be documents or models."""
    return orjson.dumps(document, default=_dumped, option=_FLOAT32)


def plain(document: Document) -> Document:
    """It as whoever reads the JSON has it, in Python's own numbers."""
    read: Document = orjson.loads(written(document))
    return read


def _dumped(model: object) -> Document:
    if isinstance(model, BaseModel):
        return model.model_dump(mode="json")
    raise TypeError(f"an answer cannot hold a {type(model).__name__}")


def classification(classified: Classified, coverage: float) -> Document:
    """What every answer says."""
    manifest = classified.model.manifest
    names, levels = manifest.class_names, classified.probabilities.tolist()
    best = levels.index(max(levels))
    probabilities = list(classified.probabilities)
    return {
        "label": names[best],
        "class_id": best,
        "probability": probabilities[best],
        "probabilities": dict(zip(names, probabilities, strict=True)),
        "confidence_set": _confidence_set(classified, coverage),
        "in_distribution": classified.in_distribution,
        "ood_score": classified.ood_score,
        "ood_threshold": manifest.calibration.ood_threshold,
        "model": reference(classified.model),
        "image": image(classified.picture),
    }


# The same in every answer of a model, for as long as it is there.
_REFERENCES: WeakKeyDictionary[Model, Document] = WeakKeyDictionary()


def reference(model: Model) -> Document:
    """As `schemas.ModelReference` has it; to be left as it is."""
    found = _REFERENCES.get(model)
    if found is None:
        manifest = model.manifest
        found = _REFERENCES[model] = {
            "name": manifest.name,
            "version": str(manifest.version),
            "engine": model.engine.name,
            "precision": model.engine.precision,
            "accuracy": model.accuracy,
            "weights": manifest.weights_sha256 and manifest.weights_sha256[:WEIGHTS_DIGITS],
        } | ({"fallback": model.fallback} if model.fallback else {})
    return found


def image(picture: Picture) -> Document:
    """As `schemas.ImageDescription` has it."""
    return {
        "format": picture.format,
        "width": picture.width,
        "height": picture.height,
        "notes": picture.notes,
    }


def _confidence_set(classified: Classified, coverage: float) -> Document | None:
    indexes = classified.confidence_set(coverage)
    if indexes is None:
        return None
    names = classified.model.manifest.class_names
    return {"coverage": coverage, "labels": [names[index] for index in indexes]}


def _ranking(probabilities: dict[str, float]) -> list[Document]:
    """The classes by their probabilities, of which the lower id wins a tie."""
    places = [(label, place, probability) for place, (label, probability) in enumerate(probabilities.items())]
    return [
        {"label": label, "class_id": place, "probability": probability}
        for label, place, probability in sorted(places, key=lambda each: -each[2])
    ]
