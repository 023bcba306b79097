"""A second version looks at what the live one answered, in its spare time, and they are compared.

Nobody waits for it: the answer is on its way before the shadow is asked, and it is asked in the background of
the live version's own engine, when that has nothing to do, so that the two hardly compete for the cores.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np

from app import estimation
from app.classification import Classified
from app.errors import OverloadedError, ServiceError
from app.estimation import Interval
from app.metrics import Metrics, ShadowOutcome
from app.model import Model, State
from app.serving import Serving
from app.settings import Settings

_LOG: Final = logging.getLogger(__name__)
_MAX_PENDING: Final = 64  # pictures that wait for the shadow
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How often the live version said one thing and the shadow another."""

    live: str
    shadow: str
    count: int


@dataclass(slots=True)
class Comparison:
    """What came of one live version and one shadow since they stood side by side."""

    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: int = 0
    failed: int = 0

    @property
    def pictures(self) -> int:
        """Pictures that both have answered."""
        return self.pairs.total()

    @property
    def agreement(self) -> Interval | None:
        """The share on which both said the same; None as long as there is no picture."""
        agreed = sum(count for (live, shadow), count in self.pairs.items() if live == shadow)
        return estimation.proportion(agreed, self.pictures) if self.pictures else None

    @property
    def disagreements(self) -> Sequence[Disagreement]:
        """The most frequent ones, at most a hundred."""
        differing = Counter({pair: count for pair, count in self.pairs.items() if pair[0] != pair[1]})
        return [Disagreement(*pair, count) for pair, count in differing.most_common(_SHOWN)]


class Shadow:
    """Compares the version `number` of the default model, if there is one, on a `share` of the pictures.

    Belongs to one event loop. What it counts begins anew with another live version, and with the process.
    """

    def __init__(
        self, serving: Serving, metrics: Metrics, *, name: str, number: int | None, share: float
    ) -> None:
        self._serving = serving
        self._metrics = metrics
        self._name = name
        self._turn = 0.0
        self._pending: set[asyncio.Task[None]] = set()
        self._live: int | None = None
        self._has_failed = False
        self.number: Final = number
        self.share: Final = share
        self.comparison = Comparison()

    @classmethod
    def configured(cls, settings: Settings, serving: Serving, metrics: Metrics) -> "Shadow":
        return cls(
            serving,
            metrics,
            name=settings.model_name,
            number=settings.shadow_version,
            share=settings.shadow_share,
        )

    @property
    def reason(self) -> str:
        """Why nothing is compared now, in a sentence; empty if something is."""
        if self.number is None:
            return "CLASSIFIER_SHADOW_VERSION names no version."
        versions = self._serving.versions(self._name)
        if versions.is_live(self.number):
            return f"Version {self.number} is live itself."
        state, reason = versions.residents.status(self.number)
        if state is not State.READY:
            return reason or f"Version {self.number} is {state}."
        same_size = versions.residents.ready[self.number].input_size == versions.live.input_size
        return "" if same_size else f"Version {self.number} takes pictures of another size."

    def look(self, classified: Classified) -> None:
        """Lets the shadow look at what was just answered, if it is this picture's turn; never raises."""
        if self.number is None or classified.model.manifest.name != self._name:
            return
        self._turn += self.share
        if self._turn < 1:
            return
        self._turn -= 1
        model = self._serving.versions(self._name).residents.ready.get(self.number)
        if model is None or model is classified.model or model.input_size != classified.model.input_size:
            return
        comparison = self._comparison(classified.model)
        if len(self._pending) >= _MAX_PENDING:
            self._drop(comparison)
            return
        task = asyncio.create_task(self._compare(classified, model, comparison))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def close(self) -> None:
        """Forgets what waits."""
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    def _comparison(self, live: Model) -> Comparison:
        if live.manifest.version != self._live:
            self._live, self.comparison = live.manifest.version, Comparison()
        return self.comparison

    async def _compare(self, classified: Classified, model: Model, comparison: Comparison) -> None:
        live = classified.model
        try:
            with model.held():
                result = await model.predict_in_turn_of(live, classified.picture.pixels[np.newaxis])
        except OverloadedError:
            self._drop(comparison)
        except ServiceError as error:
            if live.alive:
                self._fail(comparison, error)
            else:
                self._drop(comparison)  # it was retired, and with it goes what waited in its background
        else:
            said = live.manifest.class_names[int(classified.probabilities.argmax())]
            thought = model.manifest.class_names[int(result.prediction.probabilities[0].argmax())]
            comparison.pairs[said, thought] += 1
            self._count("agreed" if said == thought else "disagreed")

    def _drop(self, comparison: Comparison) -> None:
        comparison.dropped += 1
        self._count("dropped")

    def _fail(self, comparison: Comparison, error: ServiceError) -> None:
        comparison.failed += 1
        self._count("failed")
        if not self._has_failed:
            _LOG.warning("The shadow, %s version %s, failed on a picture: %s", self._name, self.number, error)
        self._has_failed = True

    def _count(self, outcome: ShadowOutcome) -> None:
        self._metrics.shadow.labels(outcome).inc()
