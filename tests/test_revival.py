"""An engine whose thread ends is never a black hole: it is told, and started again, or the process ends."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress

import numpy as np
import pytest
from asgi import until
from fakes import MODEL, FakeEngine, publish_fake
from numpy.typing import NDArray
from test_serving import RED, Engines

from app import main, revival
from app.deployment import Policy
from app.engines import Prediction
from app.errors import CANNOT_GO_ON, EngineError, NotReadyError
from app.loading import Loader
from app.metrics import Metrics
from app.model import Model, State
from app.repository import Repository
from app.revival import Revival
from app.serving import Serving
from app.settings import Settings
from app.stall import StallWatch
from app.versions import Versions

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


BLACK = np.zeros_like(RED)


class DyingEngine(FakeEngine):
    """Ends the thread that asks it about red."""

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        if (images == RED[0, 0, 0]).all():
            raise SystemExit
        return super().predict(images)


class UnstartableEngine(FakeEngine):
    def __init__(self) -> None:
        raise EngineError("The fake engine does not start a second time.")


@pytest.fixture
def made() -> Engines:
    made = Engines()
    made.make = DyingEngine
    return made


@pytest.fixture
async def serving(settings: Settings, made: Engines) -> AsyncIterator[Serving]:
    """Ready, and it does not look at folders, which would help as well."""
    serving = Serving(settings.model_copy(update={"model_poll_s": 0}), made)
    await serving.start()
    yield serving
    await serving.close()


async def kill(serving: Serving) -> None:
    with pytest.raises(EngineError, match="stopped before it answered"):
        await serving.live.predict(RED)
    assert (serving.state, serving.reason) == (
        State.FAILED,
        "The engine has stopped and is started again.",
    )
    with pytest.raises(NotReadyError, match="has stopped"):
        serving.live.held()


async def test_it_is_started_again(serving: Serving, made: Engines, caplog: pytest.LogCaptureFixture) -> None:
    tending = asyncio.create_task(serving.tend())
    await kill(serving)
    made.make = FakeEngine
    await until(lambda: serving.state is State.READY)
    assert (await serving.live.predict(RED)).prediction.probabilities.argmax() == 0
    assert f"The engine of {MODEL} version 1 has stopped and is started again." in caplog.text
    await until(lambda: made.made[0].closed)
    tending.cancel()
    with suppress(asyncio.CancelledError):
        await tending


async def test_one_that_answers_nobody_any_more_is_started_again(
    serving: Serving, made: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    """Its thread is well, so it would give everybody a 500 while /readyz says that all is well."""
    tending = asyncio.create_task(serving.tend())
    broken = serving.live
    made.made[0].fails_on = lambda _: True
    for _ in range(5):
        assert serving.state is State.READY
        with pytest.raises(EngineError, match="told to fail"):
            await broken.predict(BLACK)
    await until(lambda: not broken.alive)
    made.make = FakeEngine
    await until(lambda: serving.state is State.READY and serving.live is not broken)
    assert (await serving.live.predict(RED)).prediction.probabilities.argmax() == 0
    assert "failed on 5 batches in a row, at last with: The fake engine was told to fail" in caplog.text
    tending.cancel()
    with suppress(asyncio.CancelledError):
        await tending


async def test_pictures_that_fail_among_others_do_not_end_an_engine(serving: Serving, made: Engines) -> None:
    made.made[0].fails_on = lambda image: not image.any()
    for _ in range(4):
        for _ in range(4):
            with pytest.raises(EngineError, match="told to fail"):
                await serving.live.predict(BLACK)
        assert (await serving.live.predict(np.full_like(RED, 9))).prediction.probabilities.shape == (1, 3)
    assert serving.state is State.READY


async def test_where_engines_are_not_looked_after_any_more_the_process_ends(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    class Mistaken(Serving):
        async def tend(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(SystemExit) as ended:
        await main._tend(Mistaken(serving._settings, Engines()))
    assert ended.value.code == CANNOT_GO_ON
    assert "What looks after the engines has failed." in caplog.text


async def test_if_that_fails_the_process_ends_so_that_others_can_help(
    serving: Serving, made: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    await kill(serving)
    made.make = UnstartableEngine
    with pytest.raises(SystemExit) as ended:
        await main._tend(serving)
    assert ended.value.code == CANNOT_GO_ON
    assert f"{MODEL} cannot answer any more: The fake engine does not start a second time." in caplog.text


async def test_one_that_stops_over_and_over_is_started_ever_more_rarely(
    serving: Serving, made: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor = Revival(serving.versions(MODEL))
    for deaths in (1, 2, 3):
        await kill(serving)
        monkeypatch.setattr(revival, "FIRST_PAUSE_S", 60.0)
        if deaths > 1:
            await doctor.look()
            assert serving.state is State.FAILED
        monkeypatch.setattr(revival, "FIRST_PAUSE_S", 0.0)
        await doctor.look()
        assert (serving.state, doctor.deaths) == (State.READY, deaths)
    assert len(made.made) == 4


async def test_until_it_answers_again_callers_are_told_to_wait(serving: Serving, made: Engines) -> None:
    versions = serving.versions(MODEL)
    await kill(serving)
    made.gate.clear()
    following = asyncio.create_task(serving.follow())
    while (state := versions.known()[1].state) is not State.LOADING:
        assert state is State.FAILED
        await asyncio.sleep(0)
    with pytest.raises(NotReadyError):
        versions.live.held()
    made.make = UnstartableEngine
    made.gate.set()
    await following
    versions.residents.forget()
    with pytest.raises(NotReadyError):
        versions.live.held()


class UnreadableVersions(Versions):
    async def follow(self) -> None:
        raise OSError(5, "Input/output error")


async def test_whatever_goes_wrong_with_one_model_the_watch_goes_on(
    settings: Settings, made: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    versions = UnreadableVersions(MODEL, Loader(settings, made, Metrics()), Policy.parse("latest"))
    await versions.start()
    with pytest.raises(EngineError):
        await versions.live.predict(RED)
    await Revival(versions).look()
    assert "Input/output error" in caplog.text
    await versions.close()


@pytest.mark.parametrize("decided", ['{"live": 9}', '{"live": 2, "labels": {"stable": 9}}'])
async def test_it_is_started_again_although_another_was_decided_on_that_is_not_sound(
    serving: Serving, repository: Repository, decided: str
) -> None:
    publish_fake(repository)
    file = repository.root / MODEL / "serving.json"
    file.write_text('{"live": 2, "labels": {"stable": 1}}')
    await serving.follow()
    file.write_text(decided)
    await serving.follow()
    answering = [serving.live, serving.find(MODEL, label="stable")] if "labels" in decided else [serving.live]
    for model in answering:
        with pytest.raises(EngineError):
            await model.predict(RED)
    await serving.follow()
    assert serving.state is State.READY
    assert serving.live.manifest.version == 2
    if "labels" in decided:
        assert serving.find(MODEL, label="stable").manifest.version == 1


async def hung(serving: Serving, made: Engines, engine: FakeEngine | None = None) -> asyncio.Task[object]:
    """A caller whose batch the engine, by default the last that was made, never comes back from."""
    (engine or made.made[-1]).gate.clear()
    calling = asyncio.create_task(serving.live.predict(BLACK))
    await until(lambda: serving.live.batch is not None)
    return calling


async def test_one_that_hangs_ends_the_process_because_its_thread_cannot_be_ended(
    settings: Settings, made: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    serving = Serving(settings.model_copy(update={"engine_stall_s": 0.4}), made)
    await serving.start()
    calling = await hung(serving, made)
    waiting = asyncio.create_task(serving.live.predict(BLACK))
    with pytest.raises(SystemExit) as ended:
        await main._tend(serving)
    for caller in (calling, waiting):
        with pytest.raises(EngineError, match="stopped before it answered"):
            await caller
    assert serving.state is State.FAILED
    assert ended.value.code == CANNOT_GO_ON
    assert (
        f"{MODEL} version 1 has been at the same batch for 0.4 s (CLASSIFIER_ENGINE_STALL_S)" in caplog.text
    )
    made.made[-1].gate.set()
    await serving.close()


async def test_one_that_seems_to_hang_is_not_ready_long_before_it_is_given_up(
    settings: Settings, made: Engines
) -> None:
    serving = Serving(settings.model_copy(update={"engine_stall_s": 3.0}), made)
    await serving.start()
    tending = asyncio.create_task(serving.tend())
    calling = await hung(serving, made)
    await until(lambda: serving.state is State.FAILED)
    assert serving.reason == f"The engine of {MODEL} version 1 seems to hang at a batch."
    with pytest.raises(NotReadyError, match="seems to hang"):
        _ = serving.answering
    for number in (None, 1):
        with pytest.raises(NotReadyError, match="seems to hang"):
            serving.find(MODEL, number)
    made.made[-1].gate.set()
    await calling
    await until(lambda: serving.state is State.READY)
    assert serving.reason == ""
    assert not tending.done()
    tending.cancel()
    await serving.close()


async def test_a_load_that_takes_long_hides_no_engine_that_hangs(
    settings: Settings, repository: Repository, made: Engines
) -> None:
    shutil.copytree(repository.folder(MODEL), repository.root / "shades")
    manifest = repository.root / "shades" / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"{MODEL}"', '"shades"'))
    changes = {"models": f"{MODEL},shades", "engine_stall_s": 1.0, "model_poll_s": 0}
    serving = Serving(settings.model_copy(update=changes), made)
    await serving.start()
    made.gate.clear()
    with pytest.raises(EngineError, match="stopped before it answered"):
        await serving.find("shades").predict(RED)
    tending = asyncio.create_task(serving.tend())
    await until(lambda: serving.versions("shades").residents.status(1).state is State.LOADING)
    calling = await hung(serving, made, engine=made.made[0])
    with pytest.raises(EngineError, match="has been at the same batch for 1 s"):
        await tending
    with pytest.raises(EngineError, match="stopped before it answered"):
        await calling
    made.gate.set()
    made.made[0].gate.set()
    await serving.close()


async def test_only_looks_that_find_it_at_the_same_batch_count(serving: Serving, made: Engines) -> None:
    """A process that was stopped for an hour looks no more often for that."""
    watch = StallWatch(every_s=1.0)

    def looked() -> list[Model]:
        watch.look([serving.live])
        return watch.stalled(2.0)

    for _ in range(3):
        calling = await hung(serving, made)
        assert [looked() for _ in range(2)] == [[], []]
        made.made[-1].gate.set()
        await calling
        await until(lambda: serving.live.batch is None)
        assert looked() == []
    calling = await hung(serving, made)
    assert [looked() for _ in range(3)] == [[], [], [serving.live]]
    made.made[-1].gate.set()
    await calling
