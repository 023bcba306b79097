"""How versions are loaded beside each other, and what becomes of one that nobody waits for any more."""

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from asgi import until
from fakes import MODEL, FakeEngine, publish_fake

from app.errors import EngineError
from app.loading import Loader
from app.metrics import Metrics
from app.model import Model
from app.repository import Repository
from app.settings import Settings

pytestmark = pytest.mark.anyio


class Held:
    """Makes an engine for a version, or nothing at all, once the test lets that version go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.asked: list[str] = []
        self.made: dict[int, FakeEngine] = {}
        self.gates = {number: threading.Event() for number in (1, 2, 3)}
        self.error: Exception | None = None

    def __call__(self, name: str, folder: Path, threads: int) -> FakeEngine:
        number = int(folder.name)
        self.begun.append(number)
        self.asked.append(name)
        assert self.gates[number].wait(timeout=20), "the test never let it go"
        if self.error is not None:
            raise self.error
        self.made[number] = FakeEngine()
        return self.made[number]


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    for gate in held.gates.values():
        gate.set()
    for thread in threading.enumerate():  # what is abandoned would go on into the next test
        if thread.name == "loader":
            thread.join(20)


@pytest.fixture
def three(settings: Settings, repository: Repository) -> Settings:
    """Three versions, and an engine by name, so that each is asked for once."""
    publish_fake(repository)
    publish_fake(repository)
    return settings.model_copy(update={"engine": "tensorflow"})


def loader_of(settings: Settings, held: Held, **changes: object) -> Loader:
    return Loader(settings.model_copy(update=changes), held, Metrics())


async def begun(loader: Loader, held: Held, number: int, name: str = MODEL) -> asyncio.Task[Model]:
    task = asyncio.create_task(loader.load(name, number))
    await until(lambda: number in held.begun)
    return task


async def abandon(task: asyncio.Task[Model]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def passes() -> None:
    """Time enough for what must not happen."""
    await asyncio.sleep(0.15)


async def test_the_next_begins_at_once_and_what_was_abandoned_is_closed_when_it_ends(
    three: Settings, held: Held
) -> None:
    loader = loader_of(three, held)
    await abandon(await begun(loader, held, 1))
    held.gates[2].set()
    model = await loader.load(MODEL, 2)
    assert not held.made.get(1)
    held.gates[1].set()
    await until(lambda: 1 in held.made and held.made[1].closed)
    await model.close()


async def test_what_is_abandoned_and_fails_says_nothing(
    three: Settings, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    """The one line that says why a process ends would have another beside it."""
    held.error = EngineError("It is broken.")
    await abandon(await begun(loader_of(three, held), held, 1))
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "loader")
    held.gates[1].set()
    await asyncio.to_thread(thread.join, 20)
    assert "It is broken." not in caplog.text


async def test_one_that_is_loaded_in_the_moment_in_which_it_is_abandoned_is_closed_too(
    three: Settings, held: Held
) -> None:
    loader = loader_of(three, held)
    loading = await begun(loader, held, 1)
    held.gates[1].set()
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "loader")
    thread.join(20)  # the event loop does not turn meanwhile, so nobody has taken it yet
    await abandon(loading)
    await until(lambda: held.made[1].closed)


async def test_of_one_model_at_most_one_is_abandoned_and_not_at_its_end(three: Settings, held: Held) -> None:
    loader = loader_of(three, held)
    for number in (1, 2):
        await abandon(await begun(loader, held, number))
    third = asyncio.create_task(loader.load(MODEL, 3))
    await passes()
    assert held.begun == [1, 2]
    held.gates[2].set()
    held.gates[3].set()
    await (await third).close()


async def test_what_is_abandoned_and_hangs_counts_no_longer_than_loading_may_take(
    three: Settings, held: Held
) -> None:
    loader = loader_of(three, held, load_timeout_s=1.0)
    for number in (1, 2):
        await abandon(await begun(loader, held, number))
    held.gates[3].set()
    async with asyncio.timeout(10):
        await (await loader.load(MODEL, 3)).close()


async def test_no_other_engine_is_tried_for_what_was_abandoned(settings: Settings, held: Held) -> None:
    loader = loader_of(settings, held)
    await abandon(await begun(loader, held, 1))
    held.error = EngineError("The first does not run it.")
    held.gates[1].set()
    await loader.close()
    assert len(held.asked) == 1


async def test_the_end_waits_for_what_was_abandoned(three: Settings, held: Held) -> None:
    loader = loader_of(three, held)
    await abandon(await begun(loader, held, 1))
    closing = asyncio.create_task(loader.close())
    await passes()
    assert not closing.done()
    held.gates[1].set()
    await closing
    assert held.made[1].closed


@pytest.mark.parametrize("turn_s", [0.05, 20.0])
async def test_models_load_one_after_another_but_wait_for_none_that_takes_long(
    three: Settings, repository: Repository, held: Held, monkeypatch: pytest.MonkeyPatch, turn_s: float
) -> None:
    monkeypatch.setattr("app.loading.TURN_S", turn_s)
    shutil.copytree(repository.folder(MODEL), repository.folder("shades"))
    manifest = repository.folder("shades", 2) / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"{MODEL}"', '"shades"'))
    loader = loader_of(three, held)
    first = await begun(loader, held, 1)
    second = asyncio.create_task(loader.load("shades", 2))
    if turn_s < 1:
        await until(lambda: held.begun == [1, 2])
    else:
        await passes()
        assert held.begun == [1]
    for gate in held.gates.values():
        gate.set()
    for task in (first, second):
        await (await task).close()


async def test_a_turn_that_is_over_does_not_shorten_what_loading_may_take(
    three: Settings, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.loading.TURN_S", 0.01)
    loader, began = loader_of(three, held, load_timeout_s=0.3), time.monotonic()
    with pytest.raises(EngineError, match=r"within 0\.3 s"):
        await loader.load(MODEL, 1)
    assert time.monotonic() - began >= 0.3
