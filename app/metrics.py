"""What the service counts and measures, in the form that Prometheus reads.

Every value of a label comes from a short list of ours (route templates, error codes, class names), never from
a request, so that no sender can make the number of series grow.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from math import fsum
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from app import shared_metrics

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

ShadowOutcome = Literal["agreed", "disagreed", "dropped", "failed"]
Stage = Literal["read", "decode", "queue", "infer", "encode", "total"]

# The only bounds of histograms, in the unit that the name of the metric ends with.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BYTES: Final = tuple(float(4**power) for power in range(5, 14))  # 1 KiB to 64 MiB
PICTURES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
RATIO: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

_REMEMBERED: Final = 4096
_AT_ONCE: Final = 4096  # of them about eight belong to a request
_STAGES: Final[tuple[Stage, ...]] = ("read", "decode", "queue", "infer", "encode", "total")


class Metrics:
    """Counters and histograms in a registry of their own, so that two services share nothing.

    Where several processes serve together, what they count and what they are doing is added up.

    What a process that serves alone counts with every request is noted, and told to the registry when
    somebody reads or there is much of it: an update in the middle of something else costs several times as
    much as one of many. So the methods belong to one event loop. `in_flight` are requests admitted and not
    yet answered.
    """

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self._live = _Live()
        self._waiting: Mapping[str, Callable[[], int]] = {}
        self._present: shared_metrics.Present | None = None
        self._shown = self.registry
        if shared_metrics.is_joined():
            self._shown = CollectorRegistry()
            self._present = shared_metrics.Present(self._shown)
        else:
            ProcessCollector(registry=self.registry)
            GCCollector(registry=self.registry)
        self._shown.register(self._live)
        self.requests: Final = self._counter(
            "classifier_requests", "Requests answered.", "route", "method", "status"
        )
        self.refusals: Final = self._counter(
            "classifier_refusals", "Requests answered with an error, by its code.", "code"
        )
        self.loads: Final = self._counter(
            "classifier_version_loads",
            "Versions that were to be loaded: loaded, or the code of the error.",
            "model",
            "outcome",
        )
        self.overloads: Final = self._counter(
            "classifier_overloads", "Requests refused as overloaded, by what there was too much of.", "reason"
        )
        self.picture_refusals: Final = self._counter(
            "classifier_picture_refusals", "Files that became no picture, by the code of the error.", "code"
        )
        self.shadow: Final = self._counter(
            "classifier_shadow_pictures",
            "Pictures that the shadow was to look at: agreed, disagreed, dropped or failed.",
            "outcome",
        )
        self.unremembered: Final = self._counter(
            "classifier_predictions_unremembered",
            "Answers that no feedback can be given on, since the file could not follow.",
        )
        self.in_flight = 0
        self._notes = 0
        self._in_flight = Gauge(
            "classifier_requests_in_flight",
            "Requests admitted and not yet answered.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._predictions = self._counter(
            "classifier_predictions",
            "Pictures by the class that was most probable.",
            "model",
            "version",
            "label",
        )
        # To find a counter by its labels takes longer than to count.
        self._count_class = lru_cache(_REMEMBERED)(lambda *labels: self._predictions.labels(*labels).inc)
        self._count_request = lru_cache(_REMEMBERED)(lambda *labels: self.requests.labels(*labels).inc)
        self._count_overload = lru_cache(_REMEMBERED)(lambda reason: self.overloads.labels(reason).inc)
        self._count_refusal = lru_cache(_REMEMBERED)(lambda code: self.refusals.labels(code).inc)
        # What others read, and what shall outlive this process, is told at once.
        self._tells_at_once = shared_metrics.is_joined()
        self._counted: defaultdict[Callable[[float], object], int] = defaultdict(int)
        self._observed: list[tuple[_Histogram, list[float]]] = []
        stages = _Histogram(
            "classifier_stage_seconds",
            "Where time went; read and total are of requests with an answer, the rest of their pictures.",
            ["stage"],
            registry=self.registry,
            buckets=SECONDS,
        )
        self._stages = {stage: self._observer(stages.labels(stage)) for stage in _STAGES}
        self._body_bytes = self._observer(
            self._histogram("classifier_request_body_bytes", "Bodies of requests with an answer.", BYTES)
        )
        self.batch_pictures: Final = self._histogram(
            "classifier_batch_pictures", "Pictures that the engine took at once.", PICTURES
        )
        confidences = _Histogram(
            "classifier_confidence_ratio",
            "Probability of the class that was most probable.",
            ["model", "version"],
            registry=self.registry,
            buckets=RATIO,
        )
        self._confidence_of = cache(lambda *labels: self._observer(confidences.labels(*labels)))

    def watch(
        self,
        waiting: Mapping[str, Callable[[], int]],
        ready: Callable[[], bool],
        live: Callable[[], Iterable[Mapping[str, str]]],
        versions: Callable[[], Iterable[Mapping[str, str]]],
    ) -> None:
        """What is looked up when somebody reads.

        Pictures waiting, whether the default model answers, the version of each model that is live, and the
        state of every version that is in memory or should be; the latter two as labels.
        """
        self._waiting, self._live.ready = waiting, ready
        if self._present is None:
            self._live.waiting = waiting
        self._live.live, self._live.versions = live, versions

    def watch_feedback(
        self, figures: Callable[[], Iterable[tuple[Mapping[str, str], Mapping[str, float]]]]
    ) -> None:
        """What is looked up too: of each version with feedback its labels, and its figures by name."""
        self._live.feedback = figures

    def answered(self, route: str, method: str, status: int) -> None:
        """Counts a request; each comes from a short list."""
        self._count(self._count_request(route, method, str(status)))

    def refused(self, code: str) -> None:
        """Counts a request that was answered with an error, by its code."""
        self._count(self._count_refusal(code))

    def overloaded(self, reason: str) -> None:
        """Counts one that was refused because of that."""
        self._count(self._count_overload(reason))

    def received(self, body_bytes: int) -> None:
        """Counts the body of a request that has its answer."""
        self._body_bytes(body_bytes)

    def took(self, stage: Stage, seconds: float) -> None:
        self._stages[stage](seconds)

    def predicted(
        self, model: str, version: str, class_names: Sequence[str], probabilities: NDArray[np.float32]
    ) -> None:
        """Counts answers, float32 [N, K] with K names. When either metric shifts, so does the input."""
        observe = self._confidence_of(model, version)
        for row in probabilities.tolist():
            confidence = max(row)
            observe(confidence)
            self._count(self._count_class(model, version, class_names[row.index(confidence)]))

    def _count(self, tell: Callable[[float], object]) -> None:
        if self._tells_at_once:
            tell(1)
            return
        self._counted[tell] += 1
        self._notice()

    def _observer(self, histogram: "_Histogram") -> Callable[[float], object]:
        """What to call with each value of a histogram."""
        if self._tells_at_once:
            return histogram.observe
        values: list[float] = []
        self._observed.append((histogram, values))

        def note(value: float) -> None:
            values.append(value)
            self._notice()

        return note

    def _notice(self) -> None:
        """Sees to it that what is noted does not grow."""
        self._notes += 1
        if self._notes >= _AT_ONCE:
            self._tell_noted()

    def _tell_noted(self) -> None:
        for tell, count in self._counted.items():
            tell(count)
        self._counted.clear()
        for histogram, values in self._observed:
            histogram.observe_all(values)
            values.clear()
        self._notes = 0
        self._in_flight.set(self.in_flight)

    def tell_others(self) -> bool:
        """Lets the other processes know what this one is doing; False if there are none."""
        self._tell_noted()
        if self._present is None:
            return False
        self._present.tell(self._waiting)
        return True

    def render(self) -> bytes:
        """Everything, as text of the type `CONTENT_TYPE`."""
        self.tell_others()
        return generate_latest(self._shown)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, bounds: Sequence[float]) -> "_Histogram":
        return _Histogram(name, meaning, registry=self.registry, buckets=bounds)


class _Histogram(Histogram):
    """One that can be told of many values in the time that `observe` takes for a few."""

    def observe_all(self, values: Sequence[float]) -> None:
        """The same as to `observe` each."""
        if not values:
            return
        self._sum.inc(fsum(values))
        counts = np.bincount(np.searchsorted(self._upper_bounds, values))  # the first bound that is not less
        for bucket, count in zip(self._buckets, counts.tolist(), strict=False):
            if count:
                bucket.inc(count)


class _Live(Collector):
    """Values of this moment: nothing keeps them up to date while nobody looks."""

    def __init__(self) -> None:
        self.waiting: Mapping[str, Callable[[], int]] = {}
        self.ready: Callable[[], bool] = lambda: False
        self.live: Callable[[], Iterable[Mapping[str, str]]] = list
        self.versions: Callable[[], Iterable[Mapping[str, str]]] = list
        self.feedback: Callable[[], Iterable[tuple[Mapping[str, str], Mapping[str, float]]]] = list

    def describe(self) -> list[GaugeMetricFamily]:
        """See `Collector`; without it, registering would collect."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See `Collector`."""
        waiting = GaugeMetricFamily(
            "classifier_pictures_waiting",
            "Pictures waiting for a decoder or in one (decode), for the engine (queue), for its spare time "
            "(background).",
            labels=["stage"],
        )
        for stage, pictures in self.waiting.items():
            waiting.add_metric([stage], pictures())
        if self.waiting:
            yield waiting
        yield GaugeMetricFamily(
            "classifier_ready", "1 if a version answers, 0 if none does.", float(self.ready())
        )
        yield from _ones("classifier_model_info", "The version of each model that answers.", self.live())
        yield from _ones(
            "classifier_version_state",
            "What each version does; those merely on disk are left out.",
            self.versions(),
        )
        yield from _of_feedback(self.feedback())


def _ones(name: str, meaning: str, rows: Iterable[Mapping[str, str]]) -> Iterator[GaugeMetricFamily]:
    """A metric that says everything by its labels."""
    found = list(rows)
    if found:
        family = GaugeMetricFamily(name, meaning, labels=list(found[0]))
        for row in found:
            family.add_metric(list(row.values()), 1)
        yield family


def _of_feedback(
    rows: Iterable[tuple[Mapping[str, str], Mapping[str, float]]],
) -> Iterator[GaugeMetricFamily]:
    """A metric per figure, with a row per version."""
    found: dict[str, GaugeMetricFamily] = {}
    for labels, figures in rows:
        for name, value in figures.items():
            if name not in found:
                meaning = "From feedback on this version's predictions; see docs/api.md."
                found[name] = GaugeMetricFamily(f"classifier_feedback_{name}", meaning, labels=list(labels))
            found[name].add_metric(list(labels.values()), value)
    yield from found.values()
