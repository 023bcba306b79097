import asyncio
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from asgi import until
from fakes import CARD, MODEL, FakeEngine, publish, publish_fake
from numpy.typing import NDArray

from app import deployment, engines, management
from app.deployment import Deployment
from app.engines import Prediction
from app.errors import (
    DamagedVersionError,
    EngineError,
    EngineNotInstalledError,
    EngineUnavailableError,
    GoldenError,
    ModelError,
    ModelNotFoundError,
    NotReadyError,
    VersionNotFoundError,
)
from app.model import State
from app.repository import Repository
from app.serving import Serving
from app.settings import Settings

pytestmark = pytest.mark.anyio

RED = np.full((1, 32, 32, 3), (255, 0, 0), dtype=np.uint8)


class Engines:
    """Makes fake engines and keeps them; `make` can be replaced by what makes others."""

    def __init__(self) -> None:
        self.made: list[FakeEngine] = []
        self.make: Callable[[], FakeEngine] = FakeEngine
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, name: str, folder: Path, threads: int) -> FakeEngine:
        assert self.gate.wait(timeout=20), "the test never opened the gate"
        self.made.append(self.make())
        return self.made[-1]


@pytest.fixture
def made() -> Engines:
    return Engines()


@pytest.fixture
async def serving(settings: Settings, made: Engines) -> AsyncIterator[Serving]:
    serving = Serving(settings, made)
    yield serving
    made.gate.set()
    for engine in made.made:
        engine.gate.set()
    await serving.close()


async def test_once_started_it_is_ready_and_answers(serving: Serving) -> None:
    await serving.start()
    assert (serving.state, serving.reason) == (State.READY, "")
    result = await serving.live.predict(RED)
    assert int(result.prediction.probabilities.argmax()) == 0


async def test_while_it_loads_the_loop_turns_and_requests_are_told_to_wait(
    serving: Serving, made: Engines
) -> None:
    made.gate.clear()
    starting = asyncio.create_task(serving.start())
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert serving.state == "loading"
    with pytest.raises(NotReadyError, match="The model colours is being loaded"):
        serving.live.held()
    made.gate.set()
    await starting
    assert serving.state == "ready"


async def test_a_start_that_has_begun_is_waited_for_and_not_made_twice(
    serving: Serving, made: Engines
) -> None:
    serving.begin()
    await serving.start()
    assert (serving.state, len(made.made)) == ("ready", 1)


async def test_every_batch_size_is_warm_before_it_is_ready(serving: Serving, made: Engines) -> None:
    await serving.start()
    assert made.made[0].batches[-5:] == [15, 8, 4, 2, 1]


async def test_sizes_that_are_never_used_are_not_warmed(repository: Repository, made: Engines) -> None:
    serving = Serving(Settings(model_root=repository.root, model_name=MODEL, max_batch_pictures=3), made)
    await serving.start()
    assert made.made[0].batches[-3:] == [3, 2, 1]
    await serving.close()


async def test_a_version_can_be_asked_for(repository: Repository, made: Engines) -> None:
    publish_fake(repository)
    serving = Serving(Settings(model_root=repository.root, model_name=MODEL, model_version=1), made)
    await serving.start()
    assert serving.live.manifest.version == 1
    await serving.close()


class LyingEngine(FakeEngine):
    """Right on everything but pictures that are mostly red, so that it only fails once it is live."""

    def __init__(self, lie: Callable[[Prediction], Prediction]) -> None:
        super().__init__()
        self._lie = lie

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        answer = super().predict(images)
        return self._lie(answer) if (images == RED[0, 0, 0]).all() else answer


class WrongEngine(FakeEngine):
    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        return super().predict(255 - images)


class DeepEngine(FakeEngine):
    precision = "float64"


class CrashingEngine(FakeEngine):
    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        raise ZeroDivisionError("deep inside a library")


@pytest.mark.parametrize(
    ("harm", "engine", "error"),
    [
        (shutil.rmtree, FakeEngine, ModelNotFoundError),
        (lambda folder: (folder / "1/weights.bin").write_bytes(b"x"), FakeEngine, DamagedVersionError),
        (str, WrongEngine, GoldenError),
        (str, DeepEngine, GoldenError),
        (str, CrashingEngine, EngineError),
    ],
    ids=["missing", "damaged", "wrong answers", "unknown precision", "crash"],
)
async def test_a_version_that_is_not_sound_never_serves_and_says_why(
    serving: Serving,
    made: Engines,
    repository: Repository,
    harm: Callable[[Path], object],
    engine: type[FakeEngine],
    error: type[ModelError],
) -> None:
    harm(repository.root / MODEL)
    made.make = engine
    with pytest.raises(error) as failed:
        await serving.start()
    assert (serving.state, serving.reason) == (State.FAILED, str(failed.value))
    with pytest.raises(NotReadyError):
        serving.live.held()


async def test_a_version_for_other_classes_than_the_model_gives_never_serves(
    repository: Repository, made: Engines
) -> None:
    publish_fake(repository, CARD.model_copy(update={"class_names": ("red", "green")}))
    serving = Serving(Settings(model_root=repository.root, model_name=MODEL, model_version=2), made)
    with pytest.raises(EngineError, match=r"shape \(9, 3\); \(9, 2\) was expected"):
        await serving.start()
    await serving.close()


async def test_a_start_falls_back_to_the_newest_sound_version_and_says_so(
    serving: Serving, repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    publish_fake(repository, CARD.model_copy(update={"class_names": ("red", "green")}))
    await serving.start()
    assert serving.live.manifest.version == 1
    assert serving.versions(MODEL).known()[2].state is State.FAILED
    assert "colours version 2 does not serve: The engine gave probabilities of shape" in caplog.text


async def test_a_version_that_is_not_sound_leaves_the_old_one_serving(
    serving: Serving, made: Engines, repository: Repository
) -> None:
    await serving.start()
    publish_fake(repository)
    made.make = WrongEngine
    versions = serving.versions(MODEL)
    await serving.follow()
    assert versions.known()[2].state is State.FAILED
    assert "other values (probabilities) for the golden picture" in versions.known()[2].reason
    with pytest.raises(GoldenError):
        await management.promote(versions, 2)
    with pytest.raises(VersionNotFoundError):
        await management.promote(versions, 9)
    assert serving.state is State.READY
    assert serving.live.manifest.version == 1
    assert (await serving.live.predict(RED)).prediction.probabilities.argmax() == 0


async def test_what_several_processes_decide_at_the_same_time_is_all_written_down(
    serving: Serving, settings: Settings, repository: Repository, made: Engines
) -> None:
    publish_fake(repository)
    others = [Serving(settings, lambda *_: FakeEngine()) for _ in range(4)]
    for each in (serving, *others):
        await each.start()
    made.gate.clear()
    loading = asyncio.create_task(management.load(serving.versions(MODEL), 1))
    await until(lambda: serving.versions(MODEL).known()[1].state is State.LOADING)
    labels = {f"label-{place}": 2 for place in range(len(others))}
    await asyncio.gather(
        *(
            management.set_label(each.versions(MODEL), label, 2)
            for each, label in zip(others, labels, strict=True)
        )
    )
    made.gate.set()
    await loading
    decided = deployment.read(repository.root / MODEL / deployment.FILE_NAME)
    assert decided == Deployment(labels=labels, loaded=frozenset({1}))
    assert serving.versions(MODEL).labels == labels
    for each in others:
        await each.close()


async def test_an_engine_that_is_not_taken_is_given_back(serving: Serving, made: Engines) -> None:
    made.make = WrongEngine
    with pytest.raises(GoldenError):
        await serving.start()
    assert made.made[0].closed


async def test_a_swap_lets_the_old_version_finish_what_it_has(
    serving: Serving, made: Engines, repository: Repository
) -> None:
    await serving.start()
    publish_fake(repository)
    with serving.live.held() as older:
        await serving.follow()
        assert serving.live.manifest.version == 2
        await asyncio.sleep(0.05)
        assert serving.versions(MODEL).known()[1].state is State.DRAINING
        assert older.in_flight == 1
        assert (await older.predict(RED)).prediction.probabilities.argmax() == 0
        assert [engine.closed for engine in made.made] == [False, False]
    await until(lambda: serving.versions(MODEL).known()[1].state is State.AVAILABLE)
    assert [engine.closed for engine in made.made] == [True, False]


async def test_a_version_that_is_held_for_very_long_is_closed_all_the_same(
    serving: Serving,
    made: Engines,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("app.model.LATE_S", 0.01)
    await serving.start()
    publish_fake(repository)
    with serving.live.held() as older:
        await serving.follow()
        await until(lambda: "colours version 1 is still at work" in caplog.text)
        assert (await older.predict(RED)).prediction.probabilities.argmax() == 0
    await until(lambda: made.made[0].closed)
    assert not older.alive


async def test_swaps_under_load_lose_nothing(serving: Serving, repository: Repository, made: Engines) -> None:
    await serving.start()
    answered = 0

    async def caller() -> None:
        nonlocal answered
        while swapping:
            with serving.live.held() as model:
                await asyncio.sleep(0)
                assert (await model.predict(RED)).prediction.probabilities.argmax() == 0
            answered += 1

    swapping = True
    callers = [asyncio.create_task(caller()) for _ in range(8)]
    for _ in range(10):
        publish_fake(repository)
        await serving.follow()
    swapping = False
    await asyncio.gather(*callers)
    assert answered > 10
    await until(lambda: [engine.closed for engine in made.made] == [True] * 10 + [False])


@pytest.mark.parametrize(
    "lie",
    [
        lambda answer: Prediction(answer.probabilities * np.float32(np.nan), answer.ood_score),
        lambda answer: Prediction(answer.probabilities * np.float32(2), answer.ood_score),
        lambda answer: Prediction(answer.probabilities, answer.ood_score + np.float32(np.inf)),
        lambda answer: Prediction(answer.probabilities[:, :2], answer.ood_score),
    ],
    ids=["nan", "sum", "infinite score", "classes"],
)
async def test_an_answer_that_makes_no_sense_is_an_error_not_an_answer(
    serving: Serving, made: Engines, lie: Callable[[Prediction], Prediction]
) -> None:
    made.make = lambda: LyingEngine(lie)
    await serving.start()
    with pytest.raises(EngineError):
        await serving.live.predict(RED)
    assert serving.state is State.READY


async def test_draining_says_not_ready_but_goes_on_answering(serving: Serving) -> None:
    await serving.start()
    serving.drain()
    assert serving.state is State.DRAINING
    assert "shutting down" in serving.reason
    assert (await serving.live.predict(RED)).prediction.probabilities.argmax() == 0


async def test_closing_gives_the_engine_back(serving: Serving, made: Engines) -> None:
    await serving.start()
    await serving.close()
    assert made.made[0].closed
    with pytest.raises(NotReadyError, match="shutting down"):
        serving.live.held()


async def test_an_engine_that_hangs_does_not_keep_the_service_from_its_end(
    settings: Settings, made: Engines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.serving.CLOSE_TIMEOUT_S", 0.1)
    serving = Serving(settings, made)
    await serving.start()
    made.made[0].gate.clear()
    waiting = asyncio.create_task(serving.live.predict(RED))
    await until(lambda: serving.live.batch is not None)
    async with asyncio.timeout(10):
        await serving.close()
    assert "colours version 1 is still at work; it is left behind." in caplog.text
    made.made[0].gate.set()
    await waiting


async def test_a_version_that_hangs_while_it_loads_fails_in_time_and_holds_up_no_other(
    settings: Settings, made: Engines, repository: Repository
) -> None:
    serving = Serving(settings.model_copy(update={"load_timeout_s": 2.0}), made)
    await serving.start()
    publish_fake(repository)
    made.gate = hanging = threading.Event()
    await serving.follow()
    assert serving.versions(MODEL).known()[2] == (
        State.FAILED,
        "colours version 2 was not loaded, proven and warm within 2 s (CLASSIFIER_LOAD_TIMEOUT_S).",
    )
    assert serving.live.manifest.version == 1
    made.gate = threading.Event()
    made.gate.set()
    publish_fake(repository)
    await serving.follow()
    assert serving.live.manifest.version == 3
    hanging.set()
    await until(lambda: len(made.made) == 3 and made.made[2].closed)
    await serving.close()


def test_a_process_ends_whatever_hangs_while_it_loads(settings: Settings) -> None:
    program = f"""
import asyncio, time
from app.errors import EngineError
from app.serving import Serving
from app.settings import Settings

async def main():
    given = Settings(model_root={str(settings.model_root)!r}, model_name={MODEL!r}, load_timeout_s=0.1)
    serving = Serving(given, lambda *_: time.sleep(600))
    try:
        await serving.start()
    except EngineError as error:
        print(error)
    await serving.close()

asyncio.run(main())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=50
    )
    assert "was not loaded, proven and warm within 0.1 s" in ended.stdout


async def test_an_engine_that_answers_wrongly_is_given_up_for_the_next_and_that_is_told(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    asked, wrong = list[str](), WrongEngine()

    def choose(name: str, *_: object) -> FakeEngine:
        asked.append(name)
        if name == "openvino-bfloat16":
            raise EngineUnavailableError("This processor does not compute in bfloat16.")
        return wrong if name == "openvino-int8" else FakeEngine()

    serving = Serving(settings.model_copy(update={"engine": "openvino"}), choose)
    await serving.start()
    assert asked == ["openvino-int8", "openvino-bfloat16", "openvino-float32"]
    assert wrong.closed
    assert "other values (probabilities) for the golden picture" in serving.live.fallback
    assert "bfloat16" not in serving.live.fallback
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "does not run on the engine openvino-int8" in caplog.text
    await serving.close()


async def test_without_any_engine_it_says_what_each_lacks(settings: Settings) -> None:
    def choose(name: str, *_: object) -> FakeEngine:
        raise EngineUnavailableError(f"{name} lacks something.")

    serving = Serving(settings, choose)
    with pytest.raises(EngineUnavailableError, match=r"openvino-int8 lacks something\..*tensorflow lacks"):
        await serving.start()
    await serving.close()


async def test_an_engine_that_is_asked_for_by_name_has_no_substitute(settings: Settings) -> None:
    asked: list[str] = []

    def choose(name: str, *_: object) -> FakeEngine:
        asked.append(name)
        return WrongEngine()

    serving = Serving(settings.model_copy(update={"engine": "openvino-int8"}), choose)
    with pytest.raises(GoldenError):
        await serving.start()
    assert asked == ["openvino-int8"]
    await serving.close()


@pytest.mark.parametrize("with_files", [True, False])
async def test_an_engine_that_is_not_installed_is_told_of_where_the_version_was_published_for_it(
    settings: Settings, repository: Repository, caplog: pytest.LogCaptureFixture, with_files: bool
) -> None:
    """A missing library of the system would make the service four times slower, and nobody would know."""

    def fill(folder: Path) -> None:
        (folder / ("openvino" if with_files else "other")).mkdir()
        (folder / ("openvino" if with_files else "other") / "int8.bin").write_bytes(b"weights")

    def choose(name: str, *_: object) -> FakeEngine:
        if name.startswith("openvino"):
            raise EngineNotInstalledError("The engine openvino needs a package that is missing.")
        if name != "tensorflow":
            raise EngineUnavailableError(f"{name} is not for this processor.")
        return FakeEngine()

    publish(repository, FakeEngine(), fill)
    serving = Serving(settings, choose)
    await serving.start()
    expected = "The engine openvino needs a package that is missing." if with_files else ""
    assert serving.live.fallback == expected
    assert caplog.text.count("was published for an engine that is not here") == with_files
    await serving.close()


@pytest.mark.parametrize("error", [MemoryError(), OSError(12, "Cannot allocate memory")])
async def test_a_moment_without_memory_does_not_cost_the_fastest_engine(
    settings: Settings, repository: Repository, error: Exception
) -> None:
    """The version is tried again later, on the same one; the version before goes on."""
    short = False

    def choose(name: str, *_: object) -> FakeEngine:
        if short and name == engines.candidates(engines.AUTO)[0]:
            raise error
        return FakeEngine()

    serving = Serving(settings, choose)
    await serving.start()
    short = True
    publish_fake(repository)
    await serving.follow()
    assert serving.live.manifest.version == 1
    failed = serving.versions(MODEL).known()[2]
    assert failed.state is State.FAILED
    assert "cannot be loaded now" in failed.reason
    await serving.close()
