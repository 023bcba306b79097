"""From a classification to the answer that a request wants."""

import asyncio
from typing import TypeVar

from app.api.parameters import Wanted
from app.api.schemas import Classification, SeenInput
from app.classification import Classified

_C = TypeVar("_C", bound=Classification)


async def answer(classified: Classified, wanted: Wanted, kind: type[_C], **place: int) -> _C:
    """The document; files that are wanted in it are written beside the event loop."""
    seen = await asyncio.to_thread(SeenInput.of, classified.picture.pixels) if wanted.with_input else None
    return kind.of(classified, coverage=wanted.coverage, top_k=wanted.top_k, seen=seen, **place)
