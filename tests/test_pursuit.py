"""A load that hangs, or is just slow, keeps nobody from what is wanted now: a rollback is at once."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from asgi import until
from fakes import MODEL, FakeEngine
from test_metrics import figures
from test_versions import Engines, closed, copied, damaged, decide, live, publish_named, states

from app import deployment, management
from app.errors import ConflictError, NotReadyError
from app.loading import Loader
from app.main import create_app
from app.metrics import Metrics
from app.model import State
from app.pursuit import Pursuit
from app.repository import Repository
from app.residents import Residents
from app.serving import Serving
from app.settings import Settings

pytestmark = pytest.mark.anyio


class HeldEngines(Engines):
    """Does not come back from loading versions that a test holds; `begun` are all that it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[int] = []
        self._gates: dict[tuple[str, int], threading.Event] = {}

    def hold(self, number: int, name: str = MODEL) -> None:
        self._gates[name, number] = threading.Event()

    def let_go(self) -> None:
        for gate in self._gates.values():
            gate.set()

    def __call__(self, name: str, folder: Path, threads: int) -> FakeEngine:
        number = int(folder.name)
        self.begun.append(number)
        gate = self._gates.get((folder.parent.name, number))
        assert gate is None or gate.wait(timeout=20), "the test never let it go"
        return super().__call__(name, folder, threads)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """With three versions."""
    repository = Repository(tmp_path / "model")
    for _ in range(3):
        publish_named(repository)
    return repository


@pytest.fixture
def settings(repository: Repository) -> Settings:
    return Settings(model_root=repository.root, model_name=MODEL, engine="tensorflow", model_poll_s=0.01)


@pytest.fixture
def engines() -> HeldEngines:
    return HeldEngines()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def serving(settings: Settings, engines: HeldEngines, metrics: Metrics) -> AsyncIterator[Serving]:
    serving = Serving(settings, engines, metrics)
    yield serving
    engines.let_go()
    await serving.close()


async def loading(engines: HeldEngines, number: int) -> None:
    await until(lambda: engines.begun[-1:] == [number])


async def begin_what_hangs(serving: Serving, repository: Repository, engines: HeldEngines) -> None:
    """Publishes version 4, which is seen and whose engine never comes."""
    engines.hold(4)
    publish_named(repository)
    await serving.look()
    await loading(engines, 4)


# What is wanted now does not wait for what was


async def test_a_file_rolls_back_while_a_newer_version_is_loaded_which_may_be_tried_again_later(
    serving: Serving, repository: Repository, engines: HeldEngines, metrics: Metrics
) -> None:
    decide(repository, '{"labels": {"stable": 2}}')
    await serving.start()
    engines.hold(4)
    publish_named(repository)
    serving.watch()
    await loading(engines, 4)
    decide(repository, '{"live": 2}')
    await until(lambda: live(serving) == 2)
    await closed(serving, 4)
    assert states(serving)[2] == "ready"
    outcomes = [name for name in figures(metrics) if name.startswith("classifier_version_loads_total")]
    assert outcomes == [f"classifier_version_loads_total model={MODEL} outcome=loaded"]
    engines.let_go()
    await until(lambda: len(engines.left()) == 1)
    assert engines.made == 3
    decide(repository, "{}")
    await until(lambda: live(serving) == 4)
    assert engines.begun == [3, 2, 4, 4]


async def test_a_call_rolls_back_to_a_version_that_is_not_in_memory_while_another_hangs(
    serving: Serving, repository: Repository, engines: HeldEngines
) -> None:
    await serving.start()
    await begin_what_hangs(serving, repository, engines)
    async with asyncio.timeout(10):
        await management.promote(serving.versions(MODEL), 1)
    assert (live(serving), states(serving)[4], engines.begun) == (1, "available", [3, 4, 1])


async def test_a_newer_version_does_not_wait_for_one_that_hangs(
    serving: Serving, repository: Repository, engines: HeldEngines
) -> None:
    await serving.start()
    await begin_what_hangs(serving, repository, engines)
    publish_named(repository)
    await serving.follow()
    assert (live(serving), states(serving)[4]) == (5, "available")


async def test_what_is_still_wanted_is_loaded_after_what_is_to_answer(
    serving: Serving, repository: Repository, engines: HeldEngines
) -> None:
    decide(repository, '{"live": 2}')
    await serving.start()
    engines.hold(3)
    decide(repository, '{"live": 2, "labels": {"canary": 3}}')
    await serving.look()
    await loading(engines, 3)
    decide(repository, '{"live": 1, "labels": {"canary": 3}}')
    await serving.look()
    await until(lambda: live(serving) == 1)
    engines.let_go()
    await serving.follow()
    assert serving.find(MODEL, label="canary").manifest.version == 3


async def test_a_start_whose_version_hangs_follows_what_is_decided_meanwhile(
    settings: Settings, repository: Repository, engines: HeldEngines
) -> None:
    engines.hold(3)
    app = create_app(settings, engines)
    async with app.router.lifespan_context(app):
        await loading(engines, 3)
        decide(repository, '{"live": 2}')
        await until(lambda: app.state.serving.state is State.READY)
        assert live(app.state.serving) == 2
        engines.let_go()


async def test_what_the_default_model_loads_at_a_start_is_first(
    settings: Settings,
    repository: Repository,
    engines: HeldEngines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.loading.TURN_S", 0.01)
    copied(repository, "second")
    serving = Serving(settings.model_copy(update={"models": "second"}), engines)
    engines.hold(3)
    serving.watch()
    starting = asyncio.create_task(serving.start())
    await loading(engines, 3)
    await asyncio.sleep(0.15)
    assert engines.begun == [3]
    engines.let_go()
    await starting
    assert engines.begun == [3, 1]
    await serving.close()


async def test_a_start_whose_version_hangs_is_done_when_another_is_promoted(
    serving: Serving, engines: HeldEngines
) -> None:
    engines.hold(3)
    starting = asyncio.create_task(serving.start())
    await loading(engines, 3)
    await management.promote(serving.versions(MODEL), 1)
    await starting
    assert (serving.state, live(serving), engines.begun) == (State.READY, 1, [3, 1])


async def test_other_models_are_followed_while_a_version_of_one_hangs(
    settings: Settings,
    repository: Repository,
    engines: HeldEngines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.loading.TURN_S", 0.05)
    copied(repository, "second")
    serving = Serving(settings.model_copy(update={"models": "second"}), engines)
    await serving.start()
    engines.hold(4)
    publish_named(repository)
    serving.watch()
    await loading(engines, 4)
    folder = repository.root / "second"
    (repository.root / MODEL / "2").rename(folder / ".2")
    path = folder / ".2/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "second"}))
    (folder / ".2").rename(folder / "2")
    await until(lambda: serving.find("second").manifest.version == 2)
    assert states(serving)[4] == "loading"
    engines.let_go()
    await serving.close()


async def test_what_failed_is_not_tried_again_at_the_cost_of_what_takes_its_place(
    settings: Settings, repository: Repository, engines: HeldEngines
) -> None:
    damaged(repository)
    residents = Residents(MODEL, Loader(settings, engines, Metrics()), first_pause_s=0.02)
    pursuit = Pursuit(residents, lambda: [number for number in (4, 1) if not residents.is_settled(number)])
    engines.hold(1)
    pursuit.turn()
    await until(lambda: residents.status(1).state is State.LOADING)
    await until(lambda: not residents.is_settled(4))
    pursuit.turn()
    assert residents.status(1).state is State.LOADING
    engines.let_go()
    await until(lambda: residents.is_ready(1))
    assert engines.begun == [1]
    pursuit.end()
    await residents.close()


# An older wish undoes nothing


async def by_another_promotion(serving: Serving, _: Repository) -> None:
    await management.promote(serving.versions(MODEL), 1)


async def by_leaving_it_to_the_policy(serving: Serving, repository: Repository) -> None:
    publish_named(repository)
    await management.promote(serving.versions(MODEL), None)


async def by_the_file(serving: Serving, repository: Repository) -> None:
    decide(repository, '{"live": 1}')
    await serving.follow()


async def by_a_file_that_takes_the_model_out(serving: Serving, repository: Repository) -> None:
    decide(repository, '{"live": 2, "serve": false}')
    await serving.follow()


async def by_unloading_it(serving: Serving, _: Repository) -> None:
    await management.unload(serving.versions(MODEL), 3)


async def by_unloading_the_model(serving: Serving, _: Repository) -> None:
    await management.serve(serving.versions(MODEL), False)


CALLED_OFF: tuple[Callable[[Serving, Repository], Awaitable[None]], ...] = (
    by_another_promotion,
    by_leaving_it_to_the_policy,
    by_the_file,
    by_a_file_that_takes_the_model_out,
    by_unloading_it,
    by_unloading_the_model,
)


@pytest.mark.parametrize("call_off", CALLED_OFF, ids=lambda function: function.__name__)
async def test_a_promotion_is_called_off_by_what_is_decided_while_its_version_is_loaded(
    serving: Serving,
    repository: Repository,
    engines: HeldEngines,
    call_off: Callable[[Serving, Repository], Awaitable[None]],
) -> None:
    decide(repository, '{"live": 2}')
    await serving.start()
    engines.hold(3)
    versions = serving.versions(MODEL)
    promoting = asyncio.create_task(management.promote(versions, 3))
    await loading(engines, 3)
    async with asyncio.timeout(10):
        await call_off(serving, repository)
        with pytest.raises(ConflictError, match="decided about colours before version 3 was loaded"):
            await promoting
    decided = deployment.read(repository.root / MODEL / deployment.FILE_NAME)
    engines.let_go()
    await until(lambda: engines.asked.count(3) == 1)
    await serving.follow()
    assert deployment.read(repository.root / MODEL / deployment.FILE_NAME) == decided
    assert states(serving)[3] == "available"


@pytest.mark.parametrize("call_off", CALLED_OFF[4:], ids=lambda function: function.__name__)
async def test_so_is_a_version_that_was_to_be_kept_beside_the_live_one(
    serving: Serving,
    repository: Repository,
    engines: HeldEngines,
    call_off: Callable[[Serving, Repository], Awaitable[None]],
) -> None:
    decide(repository, '{"live": 2}')
    await serving.start()
    engines.hold(3)
    keeping = asyncio.create_task(management.load(serving.versions(MODEL), 3))
    await loading(engines, 3)
    await call_off(serving, repository)
    with pytest.raises(ConflictError):
        await keeping


async def test_what_does_not_contradict_it_calls_nothing_off(
    serving: Serving, repository: Repository, engines: HeldEngines
) -> None:
    decide(repository, '{"live": 2}')
    await serving.start()
    engines.hold(3)
    versions = serving.versions(MODEL)
    calls = [asyncio.create_task(management.promote(versions, 3)) for _ in range(2)]
    await loading(engines, 3)
    calls.append(asyncio.create_task(management.load(versions, 3)))
    decide(repository, '{"live": 2, "labels": {"stable": 2}}')
    await serving.look()
    await management.set_label(versions, "other", 2)
    assert (live(serving), engines.begun) == (2, [2, 3])
    engines.let_go()
    await asyncio.gather(*calls)
    assert (live(serving), versions.labels, engines.begun) == (3, {"stable": 2, "other": 2}, [2, 3])


async def test_a_version_that_was_to_be_kept_is_loaded_after_a_rollback_that_was_asked_for_later(
    serving: Serving, engines: HeldEngines
) -> None:
    await serving.start()
    engines.hold(2)
    versions = serving.versions(MODEL)
    keeping = asyncio.create_task(management.load(versions, 2))
    await loading(engines, 2)
    await management.promote(versions, 1)
    assert live(serving) == 1
    engines.let_go()
    await keeping
    await until(lambda: states(serving) == {1: "ready", 2: "ready", 3: "available"})


# The end, and what nobody thought of


async def test_what_is_closed_loads_nothing_any_more(
    settings: Settings, engines: HeldEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.serving.CLOSE_TIMEOUT_S", 0.1)
    engines.hold(3)
    serving = Serving(settings, engines)
    starting = asyncio.create_task(serving.start())
    await loading(engines, 3)
    calls = [asyncio.create_task(management.promote(serving.versions(MODEL), number)) for number in (2, 3)]
    starting.cancel()
    await serving.close()
    for call in calls:
        with pytest.raises((ConflictError, NotReadyError)):
            await call
    engines.let_go()
    await serving.close()
    assert engines.begun == [3]


async def test_a_failure_that_nobody_thought_of_is_one_like_others(
    serving: Serving, repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    await serving.start()
    damaged(repository)

    def unexpected(*_: object) -> None:
        raise ZeroDivisionError

    serving.versions(MODEL).residents._loader.load = unexpected  # type: ignore[method-assign, assignment]
    await serving.follow()
    assert (live(serving), states(serving)[4]) == (3, "failed")
    assert "It failed while it was being loaded: ZeroDivisionError." in caplog.text
