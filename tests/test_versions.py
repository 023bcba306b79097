"""Which versions are in memory and which one answers, whatever happens in the folder meanwhile."""

import asyncio
import gc
import json
import shutil
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from asgi import until
from conftest import Encode
from fakes import CARD, MODEL, FakeEngine, publish, publish_fake
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import SecretStr
from test_health import client_of
from test_metrics import figures

from app import backoff, management
from app.engines import Prediction
from app.errors import ConflictError, DeploymentError, NotReadyError, VersionNotFoundError
from app.loading import Loader
from app.main import create_app
from app.manifest import Input
from app.metrics import Metrics
from app.model import State
from app.repository import Repository, Version
from app.residents import Residents
from app.serving import Serving
from app.settings import Settings

pytestmark = pytest.mark.anyio

KEY = "a key of the tests"


class NamedEngine(FakeEngine):
    """Is less sure of itself the higher the number of its version, so that answers name the version."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        answer = super().predict(images)
        powers = answer.probabilities ** np.float32(1 / (1 + self._number))
        return Prediction(powers / powers.sum(axis=1, keepdims=True), answer.ood_score)


class Engines:
    """Makes the engine of each version, and knows which of them are still there."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._made: list[weakref.ref[NamedEngine]] = []

    def __call__(self, name: str, folder: Path, threads: int) -> FakeEngine:
        number = int(folder.name)
        self.asked.append(number)
        engine = NamedEngine(number)
        self._made.append(weakref.ref(engine))
        return engine

    @property
    def made(self) -> int:
        return len(self._made)

    def left(self) -> list[NamedEngine]:
        gc.collect()
        return [engine for engine in (made() for made in self._made) if engine is not None]


class FailingAtFirst(Engines):
    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    def __call__(self, name: str, folder: Path, threads: int) -> FakeEngine:
        engine = super().__call__(name, folder, threads)
        if len(self.asked) <= self._times:
            raise MemoryError
        return engine


def publish_named(repository: Repository, fill: Callable[[Path], object] | None = None) -> Version:
    """The next version, with golden pictures for its engine."""
    engine = NamedEngine(repository.next_version(MODEL))
    return publish(repository, engine, fill or (lambda folder: (folder / "weights.bin").write_bytes(b"w")))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "model")
    publish_named(repository)
    return repository


@pytest.fixture
def settings(repository: Repository) -> Settings:
    """An engine by name has no substitute, so that each version is asked for once."""
    return Settings(model_root=repository.root, model_name=MODEL, engine="tensorflow", model_poll_s=0)


@pytest.fixture
def engines() -> Engines:
    return Engines()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def serving(settings: Settings, engines: Engines, metrics: Metrics) -> AsyncIterator[Serving]:
    serving = Serving(settings, engines, metrics)
    yield serving
    await serving.close()


def decide(repository: Repository, text: str) -> None:
    """What an operator would write into the model's folder."""
    (repository.root / MODEL / "serving.json").write_text(text)


def states(serving: Serving) -> dict[int, str]:
    return {number: str(status.state) for number, status in serving.versions(MODEL).known().items()}


def engine_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "engine"}


def live(serving: Serving) -> int:
    return serving.live.manifest.version


async def closed(serving: Serving, number: int) -> None:
    await until(lambda: states(serving)[number] == "available")


# The proof: versions change twenty times under load


async def test_versions_change_under_load_and_no_request_fails_or_gets_a_wrong_answer(
    settings: Settings, repository: Repository, engines: Engines, encode: Encode
) -> None:
    changes = {"model_poll_s": 0.01, "admin_key": SecretStr(KEY)}
    app = create_app(settings.model_copy(update=changes), engines)
    answered = dict[int, int]()
    swaps, ending, others = 20, asyncio.Event(), engine_threads()
    async with app.router.lifespan_context(app), client_of(app) as client:
        await until(lambda: app.state.serving.state is State.READY)
        callers = [
            asyncio.create_task(call_until(ending, client, encode(colour), answered))
            for colour in ("red", "lime", "blue", "red")
        ]
        callers.append(asyncio.create_task(is_ready_until(ending, client)))
        before = 1
        for swap in range(swaps):
            wanted = await change(swap, client, repository)
            await until(lambda: live(app.state.serving) == wanted)  # noqa: B023
            assert wanted != before
            before = wanted
            count = sum(answered.values())
            await until(lambda: sum(answered.values()) > count)  # noqa: B023
        ending.set()
        await asyncio.gather(*callers)
        assert set(answered) == {1, *range(2, 2 + (swaps + 2) // 3)}
        assert engines.made == swaps + 1
        await until(lambda: len(engines.left()) == 1)
        assert len(engine_threads() - others) == 1
    await until(lambda: not engines.left())


async def change(swap: int, client: httpx.AsyncClient, repository: Repository) -> int:
    """By turns: a version is published, rolled back by a file, promoted again by a call; the one to come."""
    match swap % 3:
        case 0:
            decide(repository, "{}")
            return publish_named(repository).manifest.version
        case 1:
            decide(repository, '{"live": 1}')
            return 1
        case _:
            answer = await client.put(
                f"/models/{MODEL}/live",
                json={"version": "latest"},
                headers={"Authorization": f"Bearer {KEY}"},
            )
            return int(answer.raise_for_status().json()["live"])


async def call_until(
    ending: asyncio.Event, client: httpx.AsyncClient, picture: bytes, answered: dict[int, int]
) -> None:
    """Asks by several protocols, and computes what the version that answered should have said."""
    headers = {"Content-Type": "image/png"}
    raw = {"Inference-Header-Content-Length": "0"}
    while not ending.is_set():
        answer = await client.post("/predict", content=picture, headers=headers)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        number = int(body["model"]["version"])
        pixels = np.full((1, 32, 32, 3), colour_of(body["label"]), dtype=np.uint8)
        expected = NamedEngine(number).predict(pixels).probabilities[0]
        assert list(body["probabilities"].values()) == pytest.approx(expected, abs=1e-6)
        other = await client.post(f"/v2/models/{MODEL}/infer", content=picture, headers=raw)
        assert other.status_code == 200, other.text
        length = int(other.headers["Inference-Header-Content-Length"])
        number = int(json.loads(other.content[:length])["model_version"])
        given = np.frombuffer(other.content[length : length + 12], "<f4")
        assert given == pytest.approx(NamedEngine(number).predict(pixels).probabilities[0], abs=1e-6)
        answered[number] = answered.get(number, 0) + 1


async def is_ready_until(ending: asyncio.Event, client: httpx.AsyncClient) -> None:
    """A balancer that is told otherwise once takes the service out."""
    while not ending.is_set():
        assert (await client.get("/readyz")).status_code == 200
        await asyncio.sleep(0.001)


def colour_of(label: str) -> tuple[int, int, int]:
    return {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}[label]


# What is in the folder


async def test_a_version_that_is_half_copied_is_no_version_until_its_manifest_is_there(
    serving: Serving, repository: Repository, engines: Engines
) -> None:
    await serving.start()
    publish_named(repository)
    target = repository.root / MODEL / "2"
    (target / "manifest.json").rename(repository.root / "manifest.json")
    await serving.follow()
    assert (live(serving), states(serving), engines.asked) == (1, {1: "ready"}, [1])
    (repository.root / "manifest.json").rename(target / "manifest.json")
    await serving.follow()
    assert live(serving) == 2


def wrong_answers(repository: Repository) -> None:
    publish_fake(repository)


def damaged(repository: Repository) -> None:
    (publish_named(repository).path / "weights.bin").write_bytes(b"x")


def missing_file(repository: Repository) -> None:
    (publish_named(repository).path / "golden.npz").unlink()


def broken_manifest(repository: Repository) -> None:
    (publish_named(repository).path / "manifest.json").write_text('{"schema_version": 1')


def moved(repository: Repository) -> None:
    publish_named(repository).path.rename(repository.root / MODEL / "9")


def other_classes(repository: Repository) -> None:
    publish(repository, NamedEngine(2), str, CARD.model_copy(update={"class_names": ("red", "green")}))


def other_shape(repository: Repository) -> None:
    card = CARD.model_copy(update={"input": Input(height=64, width=64)})
    publish(repository, NamedEngine(2), str, card)


def other_graph(repository: Repository) -> None:
    publish_named(repository, lambda folder: (folder / "saved_model.pb").write_bytes(b"no graph"))


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (wrong_answers, "golden_mismatch"),
        (damaged, "damaged_version"),
        (missing_file, "damaged_version"),
        (broken_manifest, "invalid_manifest"),
        (moved, "damaged_version"),
        (other_classes, "engine_failed"),
        (other_shape, "golden_mismatch"),
        (other_graph, "invalid_graph"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_version_that_is_not_sound_never_answers_and_is_tried_once(
    serving: Serving,
    repository: Repository,
    metrics: Metrics,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Repository], None],
    code: str,
) -> None:
    await serving.start()
    harm(repository)
    for _ in range(3):
        await serving.follow()
    number = max(states(serving))
    status = serving.versions(MODEL).known()[number]
    assert (live(serving), status.state) == (1, State.FAILED)
    assert serving.state is State.READY
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        f"{MODEL} version {number} does not serve: {status.reason}"
    ]
    assert figures(metrics)[f"classifier_version_loads_total model={MODEL} outcome={code}"] == 1
    with pytest.raises(NotReadyError, match=r"."):
        serving.find(MODEL, number)


async def test_what_failed_for_once_is_tried_again_though_its_files_are_the_same(
    settings: Settings, repository: Repository
) -> None:
    """It may have been short of memory, or its disk away."""
    publish_named(repository)
    engines = FailingAtFirst(times=2)
    residents = Residents(MODEL, Loader(settings, engines, Metrics()), first_pause_s=0.2)
    for expected in (1, 2):
        assert not await residents.ensure(1)
        assert not await residents.ensure(1)
        assert len(engines.asked) == expected
        await asyncio.sleep(0.2 * expected)
    assert await residents.ensure(1)
    assert residents.status(1).state is State.READY
    await residents.close()


async def test_what_never_came_to_an_end_is_not_tried_again(
    settings: Settings, repository: Repository
) -> None:
    publish_named(repository)
    engines, gate = Engines(), threading.Event()

    def choose(name: str, folder: Path, threads: int) -> FakeEngine:
        gate.wait(20)
        return engines(name, folder, threads)

    loader = Loader(settings.model_copy(update={"load_timeout_s": 0.05}), choose, Metrics())
    residents = Residents(MODEL, loader, first_pause_s=0.01)
    for _ in range(2):
        assert not await residents.ensure(1)
        await asyncio.sleep(0.05)
        gate.set()
        await until(lambda: engines.asked == [1])


@given(st.integers(1, 10**6), st.floats(0.1, 100), st.floats(100, 1e4))
def test_pauses_grow_to_a_limit_however_often_it_fails(times: int, first_s: float, longest_s: float) -> None:
    pauses = [backoff.pause_s(each, first_s, longest_s) for each in (times, times + 1)]
    assert pauses[1] == min(longest_s, 2 * pauses[0])
    assert backoff.pause_s(1, first_s, longest_s) == first_s


async def test_a_version_is_tried_again_when_its_files_have_changed(
    serving: Serving, repository: Repository
) -> None:
    await serving.start()
    version = publish_named(repository)
    (version.path / "weights.bin").write_bytes(b"x")
    await serving.follow()
    assert (live(serving), states(serving)[2]) == (1, "failed")
    (version.path / "weights.bin").write_bytes(b"w")
    await serving.follow()
    await closed(serving, 1)
    assert states(serving) == {1: "available", 2: "ready"}


async def test_a_folder_that_is_a_link_is_followed_where_it_points_now(
    settings: Settings, repository: Repository, engines: Engines, tmp_path: Path
) -> None:
    """As Kubernetes and git-sync change what is mounted: all at once, by another link."""
    following = tmp_path / "following"
    shutil.copytree(repository.root, following)
    publish_named(Repository(following))
    link, next_link = tmp_path / "link", tmp_path / "next"
    link.symlink_to(repository.root)
    serving = Serving(settings.model_copy(update={"model_root": link, "model_poll_s": 0}), engines)
    await serving.start()
    assert live(serving) == 1
    next_link.symlink_to(following)
    next_link.replace(link)
    await serving.follow()
    assert live(serving) == 2
    await serving.close()


async def test_a_number_that_is_used_again_means_the_new_files_once_they_are_sound(
    serving: Serving, repository: Repository, engines: Engines
) -> None:
    publish_named(repository)
    decide(repository, '{"labels": {"stable": 1}}')
    await serving.start()
    before = {number: serving.find(MODEL, number) for number in (1, 2)}
    shutil.rmtree(repository.root / MODEL / "2")
    publish_fake(repository)
    await serving.follow()
    assert (serving.live, states(serving)) == (before[2], {1: "ready", 2: "ready"})
    shutil.rmtree(repository.root / MODEL / "2")
    publish_named(repository, lambda folder: (folder / "weights.bin").write_bytes(b"others"))
    for _ in range(3):
        await serving.follow()
    assert serving.live.manifest.files["weights.bin"].bytes == len(b"others")
    assert serving.find(MODEL, 1) is before[1]
    assert engines.asked == [2, 1, 2, 2]


async def test_a_version_whose_files_are_gone_answers_as_long_as_it_is_wanted(
    serving: Serving, repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    publish_named(repository)
    decide(repository, '{"live": 2}')
    await serving.start()
    shutil.rmtree(repository.root / MODEL / "2")
    await serving.follow()
    assert (live(serving), caplog.messages) == (2, [])


async def test_a_number_that_was_mistyped_is_forgotten(serving: Serving, repository: Repository) -> None:
    await serving.start()
    for call in (management.load, management.promote):
        with pytest.raises(VersionNotFoundError, match=r"no version 99.*there is: 1"):
            await call(serving.versions(MODEL), 99)
    assert states(serving) == {1: "ready"}
    too_long = 10**300  # for the name of a folder
    decide(repository, json.dumps({"live": 99, "loaded": [too_long]}))
    await serving.follow()
    assert states(serving) == {1: "ready", 99: "failed", too_long: "failed"}
    decide(repository, "{}")
    await serving.follow()
    assert states(serving) == {1: "ready"}


async def test_what_is_live_stays_when_the_folder_is_suddenly_gone(
    serving: Serving, repository: Repository
) -> None:
    await serving.start()
    repository.root.rename(repository.root.with_name("elsewhere"))
    await serving.follow()
    assert live(serving) == 1
    repository.root.with_name("elsewhere").rename(repository.root)
    publish_named(repository)
    await serving.follow()
    assert live(serving) == 2


@pytest.mark.parametrize("gone", ["", MODEL], ids=["every model", "this model"])
async def test_what_was_decided_stays_when_the_folder_is_suddenly_gone(
    serving: Serving, repository: Repository, gone: str
) -> None:
    publish_named(repository)
    decide(repository, '{"live": 1, "labels": {"stable": 1, "canary": 2}}')
    await serving.start()
    elsewhere = repository.root.with_name("elsewhere")
    (repository.root / gone).rename(elsewhere)
    await serving.follow()
    assert (live(serving), serving.versions(MODEL).labels) == (1, {"stable": 1, "canary": 2})
    elsewhere.rename(repository.root / gone)
    decide(repository, "{}")
    await serving.follow()
    assert (live(serving), serving.versions(MODEL).labels) == (2, {})


async def test_to_take_the_newest_version_away_is_to_go_back(
    serving: Serving, repository: Repository
) -> None:
    publish_named(repository)
    await serving.start()
    assert live(serving) == 2
    shutil.rmtree(repository.root / MODEL / "2")
    await serving.follow()
    assert live(serving) == 1


# What was decided


async def test_a_file_rolls_back_and_holds_until_it_is_gone(serving: Serving, repository: Repository) -> None:
    publish_named(repository)
    await serving.start()
    decide(repository, '{"live": 1}')
    await serving.follow()
    publish_named(repository)
    await serving.follow()
    await closed(serving, 2)
    assert states(serving) == {1: "ready", 2: "available", 3: "available"}
    (repository.root / MODEL / "serving.json").unlink()
    await serving.follow()
    assert live(serving) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"live": 0}',
        '{"live": "two"}',
        '{"life": 2}',
        '{"labels": {"": 1}}',
        '{"live": 1}' * 2,
    ],
)
async def test_a_file_that_makes_no_sense_changes_nothing_and_is_told_of_once(
    serving: Serving, repository: Repository, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    publish_named(repository)
    decide(repository, '{"live": 1}')
    await serving.start()
    decide(repository, text)
    for _ in range(3):
        await serving.follow()
    assert live(serving) == 1
    assert "serving.json cannot be used" in serving.versions(MODEL).problem
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    decide(repository, '{"live": 2}')
    await serving.follow()
    assert (live(serving), serving.versions(MODEL).problem) == (2, "")


async def test_a_start_that_cannot_read_what_was_decided_ends_there(
    serving: Serving, repository: Repository
) -> None:
    decide(repository, "{")
    with pytest.raises(DeploymentError, match=r'serving\.json cannot be used: .* \{"live": 2'):
        await serving.start()


async def test_a_version_that_was_decided_on_has_no_substitute(
    serving: Serving, repository: Repository
) -> None:
    decide(repository, '{"live": 7}')
    with pytest.raises(VersionNotFoundError, match=r"there is: 1\. .*/serving\.json asks for version 7: "):
        await serving.start()
    assert serving.state is State.FAILED


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"model_version": 9}, r"CLASSIFIER_MODEL_VERSION \(--model-version\) asks for version 9: "),
        ({"version_policy": "9"}, r"CLASSIFIER_VERSION_POLICY \(--version-policy\) asks for it: "),
    ],
)
async def test_a_start_without_the_version_that_a_setting_asks_for_names_the_setting(
    settings: Settings, engines: Engines, setting: dict[str, object], words: str
) -> None:
    serving = Serving(settings.model_copy(update=setting), engines)
    with pytest.raises(VersionNotFoundError, match=rf"there is: 1\. {words}"):
        await serving.start()
    await serving.close()


async def test_a_decision_for_an_unsound_version_leaves_the_live_one(
    serving: Serving, repository: Repository
) -> None:
    await serving.start()
    damaged(repository)
    decide(repository, '{"live": 2}')
    await serving.follow()
    assert (live(serving), states(serving)) == (1, {1: "ready", 2: "failed"})


async def test_a_label_keeps_its_version_in_memory_and_stays_on_it_until_the_next_is_ready(
    serving: Serving, repository: Repository
) -> None:
    publish_named(repository)
    decide(repository, '{"labels": {"stable": 1}}')
    await serving.start()
    assert (live(serving), serving.find(MODEL, label="stable").manifest.version) == (2, 1)
    damaged(repository)
    decide(repository, '{"labels": {"stable": 3}}')
    await serving.follow()
    assert serving.versions(MODEL).labels == {"stable": 1}
    assert states(serving) == {1: "ready", 2: "ready", 3: "failed"}
    decide(repository, '{"labels": {"stable": 2}}')
    await serving.follow()
    await closed(serving, 1)
    assert serving.find(MODEL, label="stable").manifest.version == 2


@pytest.mark.parametrize(
    ("policy", "ready"),
    [("latest", {4}), ("latest:2", {3, 4}), ("all", {1, 2, 3, 4}), ("1,3", {1, 3}), ("2", {2})],
)
async def test_the_policy_says_which_versions_are_in_memory(
    settings: Settings, repository: Repository, engines: Engines, policy: str, ready: set[int]
) -> None:
    for _ in range(3):
        publish_named(repository)
    serving = Serving(settings.model_copy(update={"version_policy": policy}), engines)
    await serving.start()
    assert {number for number, state in states(serving).items() if state == "ready"} == ready
    assert live(serving) == max(ready)
    assert all(serving.find(MODEL, number).manifest.version == number for number in ready)
    await serving.close()


async def test_what_the_policy_keeps_can_be_unloaded_and_comes_back_when_asked_for(
    settings: Settings, repository: Repository, engines: Engines
) -> None:
    publish_named(repository)
    serving = Serving(settings.model_copy(update={"version_policy": "all"}), engines)
    await serving.start()
    versions = serving.versions(MODEL)
    await management.unload(versions, 1)
    await serving.follow()
    await closed(serving, 1)
    with pytest.raises(ConflictError, match="is live"):
        await management.unload(versions, 2)
    await management.load(versions, 1)
    assert states(serving) == {1: "ready", 2: "ready"}
    await serving.close()


async def test_the_old_version_closes_only_after_its_last_request(
    serving: Serving, repository: Repository, engines: Engines
) -> None:
    await serving.start()
    publish_named(repository)
    with serving.live.held() as held:
        await serving.follow()
        assert (live(serving), states(serving)) == (2, {1: "draining", 2: "ready"})
        with pytest.raises(NotReadyError, match="version 1 is draining"):
            serving.find(MODEL, 1)
        await asyncio.sleep(0.05)
        await held.predict(np.zeros((1, 32, 32, 3), np.uint8))
    await closed(serving, 1)
    del held
    await until(lambda: len(engines.left()) == 1)


# Several models


def copied(repository: Repository, name: str) -> None:
    """A model of another name that is the same as the one that is there."""
    shutil.copytree(repository.root / MODEL / "1", repository.root / name / "1")
    path = repository.root / name / "1/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": name}))


async def test_other_models_stand_beside_the_default_one_and_harm_nothing(
    settings: Settings, repository: Repository, engines: Engines
) -> None:
    copied(repository, "second")
    copied(repository, "broken")
    (repository.root / "broken/1/weights.bin").unlink()
    serving = Serving(settings.model_copy(update={"models": "second, broken,missing"}), engines)
    await serving.start()
    assert (serving.state, list(serving.models)) == (State.READY, [MODEL, "second", "broken", "missing"])
    assert serving.find("second").manifest.name == "second"
    with pytest.raises(NotReadyError, match=r"weights\.bin is missing"):
        serving.find("broken")
    with pytest.raises(NotReadyError, match="No version of the model missing is published"):
        serving.find("missing")
    copied(repository, "third")
    await serving.follow()
    assert "third" not in serving.models
    await serving.close()


async def test_with_all_models_those_published_later_are_served_too(
    settings: Settings, repository: Repository, engines: Engines
) -> None:
    serving = Serving(settings.model_copy(update={"models": "all"}), engines)
    await serving.start()
    copied(repository, "second")
    await serving.follow()
    assert serving.find("second", 1).manifest.name == "second"
    await serving.close()


async def test_each_model_is_reached_by_its_name(
    settings: Settings, repository: Repository, engines: Engines, encode: Encode
) -> None:
    copied(repository, "second")
    publish_named(repository)
    app: FastAPI = create_app(settings.model_copy(update={"models": "second"}), engines)
    async with app.router.lifespan_context(app), client_of(app) as client:
        await until(lambda: app.state.serving.state is State.READY)
        raw = {"Inference-Header-Content-Length": "0"}

        async def answering(path: str) -> Any:
            answer = await client.post(path, content=encode(), headers=raw)
            return json.loads(answer.content[: int(answer.headers["Inference-Header-Content-Length"])])

        for path, expected in {
            f"/v2/models/{MODEL}/infer": (MODEL, "2"),
            "/v2/models/second/infer": ("second", "1"),
            "/v2/models/second/versions/1/infer": ("second", "1"),
        }.items():
            found = await answering(path)
            assert (found["model_name"], found["model_version"]) == expected
        names = [one["name"] for one in (await client.get("/models")).json()["models"]]
        assert names == [MODEL, "second"]
        found = figures(app.state.metrics)
        assert found["classifier_model_info engine=fake model=second precision=float32 version=1"] == 1
        assert found[f"classifier_version_state model={MODEL} state=ready version=2"] == 1


# The watch


async def test_the_watch_outlives_whatever_goes_wrong(
    settings: Settings, repository: Repository, engines: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    serving = Serving(settings.model_copy(update={"model_poll_s": 0.005}), engines)
    await serving.start()
    serving.watch()
    folder = repository.root / MODEL
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.name)  # a link to itself cannot be followed
    await until(lambda: "Cannot" in caplog.text)
    folder.unlink()
    folder.with_name("elsewhere").rename(folder)
    publish_named(repository)
    await until(lambda: live(serving) == 2)
    await serving.close()


async def test_without_an_interval_nothing_is_watched(serving: Serving) -> None:
    await serving.start()
    before = asyncio.all_tasks()
    serving.watch()
    assert asyncio.all_tasks() == before
