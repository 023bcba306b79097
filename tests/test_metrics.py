import asyncio
import random
import re
import string
import threading

import numpy as np
import pytest
from asgi import WAYS_IN, WayIn, call, classify, ready, sent, until
from conftest import Encode
from fakes import MODEL, FakeEngine
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from test_admission import any_way_in

from app import metrics as metrics_module
from app.main import create_app
from app.metrics import SECONDS, Metrics
from app.settings import Settings

pytestmark = pytest.mark.anyio


def figures(metrics: Metrics) -> dict[str, float]:
    """Series -> value, as a monitoring system would read them."""
    return {
        sample.name
        + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def series(app: FastAPI) -> set[str]:
    return set(figures(app.state.metrics))


@any_way_in
async def test_every_way_in_is_counted_alike(settings: Settings, encode: Encode, way_in: WayIn) -> None:
    async with ready(settings, FakeEngine()) as app:
        assert (await classify(app, way_in, encode("red"))).status == 200
        assert (await classify(app, way_in, encode("lime"))).status == 200
        found = figures(app.state.metrics)
    assert found[f"classifier_requests_total method=POST route={way_in.template} status=200"] == 2
    assert found[f"classifier_predictions_total label=red model={MODEL} version=1"] == 1
    assert found[f"classifier_predictions_total label=green model={MODEL} version=1"] == 1
    confidence = found[f"classifier_confidence_ratio_count model={MODEL} version=1"]
    assert confidence == found["classifier_batch_pictures_sum"] == 2
    assert found["classifier_request_body_bytes_sum"] == 2 * len(way_in.pack(encode("red")))
    for stage in ("read", "decode", "queue", "infer", "encode", "total"):
        assert found[f"classifier_stage_seconds_count stage={stage}"] == 2
    spent = [
        found[f"classifier_stage_seconds_sum stage={stage}"]
        for stage in ("decode", "queue", "infer", "encode")
    ]
    assert sum(spent) <= found["classifier_stage_seconds_sum stage=total"]


async def test_a_thousand_addresses_and_methods_add_no_series(settings: Settings) -> None:
    dice = random.Random(5)  # noqa: S311
    async with ready(settings, FakeEngine()) as app:

        async def anything(method: str) -> None:
            word = "".join(dice.choices(string.ascii_letters + string.digits, k=12))
            path = dice.choice(
                ("/{}", "/predict/{}", "/v1/models/{}:predict", "/v1/{}", "/v2/models/{}/infer", "/v2/{}/{}")
            ).replace("{}", word)
            await call(app, path, sent(b"{}"), method=method, host=word, x_request_id=word)

        async def anybody(count: int) -> None:
            for _ in range(count):
                await anything(
                    dice.choice(("GET", "POST", "DELETE", dice.choice(string.ascii_uppercase) * 7))
                )

        await anybody(200)
        before = series(app)
        await anybody(1000)
        assert series(app) == before


async def test_refusals_are_counted_by_code_for_requests_and_for_pictures(settings: Settings) -> None:
    async with ready(settings, FakeEngine()) as app:
        for way_in in WAYS_IN:
            await classify(app, way_in, b"no picture")
        await call(app, "/nowhere", sent(b""), method="GET")
        found = figures(app.state.metrics)
    assert found["classifier_refusals_total code=unsupported_format"] == 1
    assert found["classifier_refusals_total code=protocol_error"] == 3
    assert found["classifier_refusals_total code=not_found"] == 1
    assert found["classifier_picture_refusals_total code=unsupported_format"] == len(WAYS_IN)
    assert found["classifier_requests_total method=GET route=other status=404"] == 1
    assert found["classifier_stage_seconds_count stage=total"] == 1  # a batch with an error in it


async def test_a_fault_is_counted_as_what_the_client_sees(settings: Settings, encode: Encode) -> None:
    async with ready(settings, FakeEngine()) as app:
        app.state.decoder = None
        with pytest.raises(AttributeError):
            await classify(app, WAYS_IN[0], encode())
        assert (
            figures(app.state.metrics)["classifier_requests_total method=POST route=/predict status=500"] == 1
        )


async def test_what_waits_is_seen_while_it_waits(settings: Settings, encode: Encode) -> None:
    engine = FakeEngine()
    async with ready(settings, engine) as app:
        engine.gate.clear()
        first = asyncio.create_task(classify(app, WAYS_IN[0], encode()))
        await until(lambda: engine.batches == [1])
        others = [asyncio.create_task(classify(app, WAYS_IN[0], encode())) for _ in range(3)]
        await until(lambda: app.state.serving.live.queued == 3)
        found = figures(app.state.metrics)
        assert found["classifier_pictures_waiting stage=queue"] == 3
        assert found["classifier_pictures_waiting stage=decode"] == 0
        assert found["classifier_requests_in_flight"] == 4
        engine.gate.set()
        await asyncio.gather(first, *others)
        found = figures(app.state.metrics)
        assert found["classifier_pictures_waiting stage=queue"] == found["classifier_requests_in_flight"] == 0
        assert (found["classifier_batch_pictures_count"], found["classifier_batch_pictures_sum"]) == (3, 4)


async def test_the_live_version_is_named_and_absent_until_it_answers(settings: Settings) -> None:
    gate = threading.Event()
    info = "classifier_model_info engine=fake model=colours precision=float32 version=1"

    def choose(*_: object) -> FakeEngine:
        assert gate.wait(timeout=20)
        return FakeEngine()

    app = create_app(settings, choose)
    async with app.router.lifespan_context(app):
        found = figures(app.state.metrics)
        assert (found["classifier_ready"], info in found) == (0, False)
        gate.set()
        await until(lambda: figures(app.state.metrics)["classifier_ready"] == 1)
        assert figures(app.state.metrics)[info] == 1


async def test_prometheus_reads_it_over_http_with_figures_of_the_process(settings: Settings) -> None:
    async with ready(settings, FakeEngine()) as app:
        answer = await call(app, "/metrics", sent(b""), method="GET")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(answer.body.decode())}
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "classifier_stage_seconds"} <= names


def test_every_histogram_names_its_unit() -> None:
    families = text_string_to_metric_families(Metrics().render().decode())
    histograms = [family.name for family in families if family.type == "histogram"]
    assert len(histograms) == 4
    assert all(re.search(r"_(seconds|bytes|pictures|ratio)$", name) for name in histograms)


def test_two_services_in_one_process_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    answers = np.array([[0.1, 0.9], [0.8, 0.2]], dtype=np.float32)
    one.predicted("pets", "3", ("cat", "dog"), answers)
    assert figures(one)["classifier_predictions_total label=dog model=pets version=3"] == 1
    assert "classifier_predictions_total label=dog model=pets version=3" not in figures(other)


def test_what_stable_says_is_not_mixed_with_what_canary_says() -> None:
    metrics = Metrics()
    for version, probability in (("1", 0.9), ("2", 0.3)):
        metrics.predicted("pets", version, ("cat",), np.array([[probability]], dtype=np.float32))
    found = figures(metrics)
    for version, probability in (("1", 0.9), ("2", 0.3)):
        assert found[f"classifier_predictions_total label=cat model=pets version={version}"] == 1
        total = found[f"classifier_confidence_ratio_sum model=pets version={version}"]
        assert total == pytest.approx(probability)


def test_nothing_that_is_noted_is_lost_whenever_it_is_read() -> None:
    metrics = Metrics()
    metrics.in_flight += 2
    for count in range(1, 2_001):
        metrics.answered("/predict", "POST", 200)
        metrics.took("infer", 0.5)
        if count in (1, 700, 2_000):
            found = figures(metrics)
            assert found["classifier_requests_total method=POST route=/predict status=200"] == count
            assert found["classifier_stage_seconds_sum stage=infer"] == count / 2
            assert found["classifier_requests_in_flight"] == 2


def test_what_is_noted_does_not_grow_until_somebody_reads() -> None:
    metrics = Metrics()
    for _ in range(10_000):
        metrics.took("infer", 0.5)
    told = metrics.registry.get_sample_value("classifier_stage_seconds_count", {"stage": "infer"})
    assert told is not None
    assert told > 5_000


@given(st.lists(st.floats(0, 100) | st.sampled_from(SECONDS)))
def test_many_values_at_once_count_as_each_by_itself(values: list[float]) -> None:
    told = []
    for several in (True, False):
        registry = CollectorRegistry()
        histogram = metrics_module._Histogram("x", "Values.", registry=registry, buckets=SECONDS)
        if several:
            histogram.observe_all(values)
        for value in () if several else values:
            histogram.observe(value)
        (family,) = registry.collect()
        told.append([each.value for each in family.samples if not each.name.endswith("_created")])
    assert told[0] == pytest.approx(told[1])
