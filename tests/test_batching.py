import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fakes import FakeEngine, strongest_colour
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.batching import Batcher
from app.engines import Prediction
from app.errors import EngineError, NotReadyError, OverloadedError
from app.lane import Result

pytestmark = pytest.mark.anyio

Pictures = NDArray[np.uint8]
UP_TO_8 = range(1, 9)


def pictures(count: int, seed: int = 0) -> Pictures:
    """Small ones, each of a colour of its own."""
    colours = np.random.default_rng(seed).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return np.broadcast_to(colours, (count, 2, 2, 3))


def is_answer_to(result: Result, images: Pictures) -> bool:
    expected = strongest_colour(images)
    return np.allclose(result.prediction.probabilities, expected.probabilities, atol=1e-6) and np.allclose(
        result.prediction.ood_score, expected.ood_score, atol=1e-5
    )


@pytest.fixture
def own_engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def batcher(own_engine: FakeEngine) -> AsyncIterator[Batcher]:
    batcher = Batcher(own_engine.predict, batch_sizes=UP_TO_8, max_queued=20)
    yield batcher
    own_engine.gate.set()
    await batcher.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def busy(engine: FakeEngine, batcher: Batcher) -> asyncio.Task[Result]:
    """Holds the engine inside a batch of one."""
    engine.gate.clear()
    task = asyncio.create_task(batcher.predict(pictures(1)))
    await until(lambda: engine.batches)
    return task


async def start(*calls: Coroutine[Any, Any, Result]) -> list[asyncio.Task[Result]]:
    """Lets calls get as far as the queue, in order."""
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


async def test_an_idle_engine_starts_at_once_and_alone(batcher: Batcher, own_engine: FakeEngine) -> None:
    for seed in range(5):
        assert is_answer_to(await batcher.predict(pictures(1, seed)), pictures(1, seed))
    assert own_engine.batches == [1] * 5


async def test_a_busy_engine_collects_what_waits(batcher: Batcher, own_engine: FakeEngine) -> None:
    first = await busy(own_engine, batcher)
    waiting = await start(*(batcher.predict(pictures(1, seed)) for seed in range(5)))
    assert batcher.queued == 5
    own_engine.gate.set()
    results = await asyncio.gather(*waiting, first)
    assert own_engine.batches == [1, 5]
    assert all(is_answer_to(result, pictures(1, seed)) for seed, result in enumerate(results[:5]))
    assert results[0].batch_pictures == 5
    assert batcher.queued == 0


async def test_pictures_count_not_requests(batcher: Batcher, own_engine: FakeEngine) -> None:
    first = await busy(own_engine, batcher)
    waiting = await start(batcher.predict(pictures(5, 1)), batcher.predict(pictures(5, 2)))
    own_engine.gate.set()
    one, other = await asyncio.gather(*waiting)
    await first
    assert own_engine.batches == [1, 8, 2]
    assert is_answer_to(one, pictures(5, 1))
    assert is_answer_to(other, pictures(5, 2))


async def test_a_request_larger_than_a_batch_is_split_and_joined(
    batcher: Batcher, own_engine: FakeEngine
) -> None:
    result = await batcher.predict(pictures(19))
    assert is_answer_to(result, pictures(19))
    assert own_engine.batches == [8, 8, 3]
    assert result.batch_pictures == 8


async def test_a_batch_of_one_works() -> None:
    engine = FakeEngine()
    batcher = Batcher(engine.predict, batch_sizes=[1], max_queued=20)
    await asyncio.gather(*(batcher.predict(pictures(2, seed)) for seed in range(3)))
    assert engine.batches == [1] * 6
    await batcher.close()


async def test_the_queue_is_bounded_in_pictures(batcher: Batcher, own_engine: FakeEngine) -> None:
    first = await busy(own_engine, batcher)
    waiting = await start(batcher.predict(pictures(12)), batcher.predict(pictures(8)))
    with pytest.raises(OverloadedError, match=r"20 pictures wait .* at most 20 may; this request adds 1"):
        await batcher.predict(pictures(1))
    own_engine.gate.set()
    await asyncio.gather(first, *waiting)
    assert is_answer_to(await batcher.predict(pictures(1)), pictures(1))


async def test_the_wait_that_is_announced_grows_with_the_queue() -> None:
    def slowly(images: Pictures) -> object:
        time.sleep(0.01)
        return strongest_colour(images)

    batcher = Batcher(slowly, batch_sizes=[1], max_queued=30)  # type: ignore[arg-type]
    for _ in range(5):
        await batcher.predict(pictures(1))
    waiting = await start(batcher.predict(pictures(30)))
    with pytest.raises(OverloadedError) as refused:
        await batcher.predict(pictures(10))
    assert 0.05 < refused.value.retry_after_s < 2
    await asyncio.gather(*waiting)
    await batcher.close()


async def test_a_cancelled_caller_frees_its_place_and_harms_nobody(
    batcher: Batcher, own_engine: FakeEngine
) -> None:
    first = await busy(own_engine, batcher)
    leaving, staying = await start(batcher.predict(pictures(15, 1)), batcher.predict(pictures(2, 2)))
    leaving.cancel()
    await asyncio.sleep(0)
    assert batcher.queued == 2
    own_engine.gate.set()
    assert is_answer_to(await staying, pictures(2, 2))
    await first
    assert own_engine.batches == [1, 2], "nothing was computed for whoever left"


async def test_a_caller_cancelled_within_a_batch_harms_nobody(
    batcher: Batcher, own_engine: FakeEngine
) -> None:
    first = await busy(own_engine, batcher)
    leaving, staying = await start(batcher.predict(pictures(1, 1)), batcher.predict(pictures(1, 2)))
    first.cancel()
    own_engine.gate.set()
    await until(lambda: len(own_engine.batches) == 2)
    leaving.cancel()
    assert is_answer_to(await staying, pictures(1, 2))


async def test_a_caller_that_runs_out_of_time_is_told_so_on_time(
    batcher: Batcher, own_engine: FakeEngine
) -> None:
    first = await busy(own_engine, batcher)
    began = time.perf_counter()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await batcher.predict(pictures(1))
    assert time.perf_counter() - began < 1
    assert batcher.queued == 0
    own_engine.gate.set()
    await first


async def test_only_the_caller_whose_picture_fails_is_told(batcher: Batcher, own_engine: FakeEngine) -> None:
    guilty = pictures(3, 9)
    own_engine.fails_on = lambda image: bool((image == guilty[1]).all())
    first = await busy(own_engine, batcher)
    waiting = await start(*(batcher.predict(images) for images in (pictures(2, 1), guilty, pictures(2, 2))))
    own_engine.gate.set()
    await first
    one, failed, other = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(one, Result)
    assert is_answer_to(one, pictures(2, 1))
    assert isinstance(failed, EngineError)
    assert isinstance(other, Result)
    assert is_answer_to(other, pictures(2, 2))


async def test_a_request_that_fails_half_way_costs_no_further_work(
    batcher: Batcher, own_engine: FakeEngine
) -> None:
    images = pictures(20)
    own_engine.fails_on = lambda image: bool((image == images[0]).all())
    with pytest.raises(EngineError):
        await batcher.predict(images)
    assert own_engine.batches == [8]
    assert batcher.queued == 0


async def test_closing_answers_what_waits_and_takes_nothing_more(own_engine: FakeEngine) -> None:
    batcher = Batcher(own_engine.predict, batch_sizes=UP_TO_8, max_queued=20)
    first = await busy(own_engine, batcher)
    waiting = await start(batcher.predict(pictures(3)))
    closing = asyncio.create_task(batcher.close())
    await until(lambda: not batcher.alive)
    with pytest.raises(NotReadyError, match="has stopped"):
        await batcher.predict(pictures(1))
    own_engine.gate.set()
    await closing
    assert is_answer_to(await waiting[0], pictures(3))
    await first


async def test_who_closes_need_not_wait_for_an_engine_that_hangs(own_engine: FakeEngine) -> None:
    batcher = Batcher(own_engine.predict, batch_sizes=UP_TO_8, max_queued=20)
    first = await busy(own_engine, batcher)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await batcher.close()
    own_engine.gate.set()
    await first


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_when_the_engine_thread_dies_nobody_waits_for_ever() -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def dies(_: Pictures) -> object:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
        raise KeyboardInterrupt

    batcher = Batcher(dies, batch_sizes=[1], max_queued=20)  # type: ignore[arg-type]
    waiting = await start(*(batcher.predict(pictures(1)) for _ in range(3)))
    release.set()
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, EngineError) for outcome in outcomes)
    await batcher.close()
    assert not batcher.alive
    with pytest.raises(NotReadyError):
        await batcher.predict(pictures(1))


async def test_two_hundred_callers_each_get_their_own_answer(own_engine: FakeEngine) -> None:
    batcher = Batcher(own_engine.predict, batch_sizes=range(1, 65), max_queued=200)
    results = await asyncio.gather(*(batcher.predict(pictures(1, seed)) for seed in range(200)))
    assert all(is_answer_to(result, pictures(1, seed)) for seed, result in enumerate(results))
    assert sum(own_engine.batches) == 200
    await batcher.close()


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=25),
    max_batch=st.integers(1, 9),
    threads=st.integers(1, 3),
    fates=st.lists(st.sampled_from(["stays", "leaves", "fails"]), min_size=25, max_size=25),
    held=st.booleans(),
    ahead=st.integers(0, 2),
)
def test_whatever_happens_to_the_others_an_answer_is_ones_own(
    counts: list[int], max_batch: int, threads: int, fates: list[str], held: bool, ahead: int
) -> None:
    engine = FakeEngine()
    batcher = Batcher(
        engine.predict,
        batch_sizes=range(1, max_batch + 1),
        max_queued=sum(counts),
        concurrency=threads,
        ahead=ahead,
    )
    asyncio.run(mixed_callers(engine, batcher, counts, fates, held=held))
    assert max(engine.batches, default=1) <= max_batch


async def mixed_callers(
    engine: FakeEngine, batcher: Batcher, counts: list[int], fates: list[str], *, held: bool
) -> None:
    requests = [pictures(count, seed) for seed, count in enumerate(counts)]
    doomed = {images[-1].tobytes() for images, fate in zip(requests, fates, strict=False) if fate == "fails"}
    engine.fails_on = lambda image: image.tobytes() in doomed
    if held:
        engine.gate.clear()
    tasks = await start(*map(batcher.predict, requests))
    for task, fate in zip(tasks, fates, strict=False):
        if fate == "leaves":
            task.cancel()
    engine.gate.set()
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for images, fate, outcome in zip(requests, fates, outcomes, strict=False):
        if fate == "fails":
            assert isinstance(outcome, EngineError)
        elif fate == "stays":
            assert isinstance(outcome, Result)
            assert is_answer_to(outcome, images)
    assert batcher.queued == 0
    await batcher.close()


# Several batches at the same time


async def test_while_one_batch_runs_the_next_picture_starts_in_another_thread() -> None:
    engine = SteppedEngine()
    batcher = Batcher(engine.predict, batch_sizes=UP_TO_8, max_queued=20, concurrency=2)
    tasks = await start(batcher.predict(pictures(1, 1)))
    await until(partial(engine.has_taken, 1))
    tasks += await start(batcher.predict(pictures(1, 2)))
    await until(partial(engine.has_taken, 2))
    tasks += await start(batcher.predict(pictures(1, 3)))
    await asyncio.sleep(0.02)
    assert batcher.queued == 1, "both are at work, so it waits"
    assert batcher.batch == 1
    engine.finish(3)
    results = await asyncio.gather(*tasks)
    assert all(is_answer_to(result, pictures(1, seed)) for seed, result in enumerate(results, start=1))
    await until(lambda: batcher.batch is None)
    await batcher.close()


async def test_threads_that_have_nothing_to_do_share_what_waits() -> None:
    engine = SteppedEngine()
    batcher = Batcher(engine.predict, batch_sizes=UP_TO_8, max_queued=20, concurrency=2)
    await asyncio.sleep(0.02)  # until both wait
    tasks = await start(batcher.predict(pictures(8)))
    await until(partial(engine.has_taken, 2))
    assert [len(batch) for batch in engine.batches] == [4, 4]
    engine.finish(2)
    assert is_answer_to(await tasks[0], pictures(8))
    await batcher.close()


async def test_a_full_batch_goes_ahead_once_another_one_waits_behind_it() -> None:
    engine = SteppedEngine()
    batcher = Batcher(engine.predict, batch_sizes=UP_TO_8, max_queued=40, concurrency=1, ahead=1)
    tasks = await start(batcher.predict(pictures(1, 1)))
    await until(partial(engine.has_taken, 1))
    tasks += await start(batcher.predict(pictures(15, 2)))
    await asyncio.sleep(0.02)
    assert batcher.queued == 15, "one more would leave too few for a full batch"
    tasks += await start(batcher.predict(pictures(1, 3)))
    await until(partial(engine.has_taken, 2))
    tasks += await start(batcher.predict(pictures(8, 4)))
    await asyncio.sleep(0.02)
    assert batcher.queued == 16, "one is computed and one waits in line; no more may"
    engine.finish(4)
    results = await asyncio.gather(*tasks)
    assert [len(batch) for batch in engine.batches] == [1, 8, 8, 8]
    wanted = zip(results, [1, 15, 1, 8], [1, 2, 3, 4], strict=True)
    assert all(is_answer_to(result, pictures(count, seed)) for result, count, seed in wanted)
    await batcher.close()


async def test_what_goes_ahead_is_answered_by_a_batcher_that_closes() -> None:
    engine = SteppedEngine()
    batcher = Batcher(engine.predict, batch_sizes=UP_TO_8, max_queued=40, concurrency=1, ahead=1)
    tasks = await start(batcher.predict(pictures(1, 0)))
    await until(partial(engine.has_taken, 1))
    tasks += await start(*(batcher.predict(pictures(1, seed)) for seed in range(1, 20)))
    await until(partial(engine.has_taken, 2))
    closing = asyncio.create_task(batcher.close())
    engine.finish(20)
    assert all(
        is_answer_to(result, pictures(1, seed)) for seed, result in enumerate(await asyncio.gather(*tasks))
    )
    await closing


async def test_nothing_of_the_background_goes_ahead() -> None:
    engine = SteppedEngine()
    batcher = Batcher(engine.predict, batch_sizes=UP_TO_8, max_queued=20, concurrency=1, ahead=1)
    tasks = await start(batcher.predict(pictures(19), background=True))
    await until(partial(engine.has_taken, 1))
    await asyncio.sleep(0.02)
    assert len(engine.batches) == 1
    engine.finish(3)
    assert is_answer_to(await tasks[0], pictures(19))
    await batcher.close()


async def test_pieces_that_end_in_another_order_are_joined_in_their_own() -> None:
    first_may_end = threading.Event()

    def later_pieces_first(images: Pictures) -> Prediction:
        if (images[0] == pictures(6)[0]).all():
            assert first_may_end.wait(20)
        return strongest_colour(images)

    batcher = Batcher(later_pieces_first, batch_sizes=[1, 2], max_queued=20, concurrency=2)
    tasks = await start(batcher.predict(pictures(6)))
    await until(lambda: not batcher.queued)
    await asyncio.sleep(0.02)
    first_may_end.set()
    assert is_answer_to(await tasks[0], pictures(6))
    await batcher.close()


async def test_a_batch_has_a_size_that_the_engine_runs_whole(own_engine: FakeEngine) -> None:
    batcher = Batcher(own_engine.predict, batch_sizes=[1, 2, 4, 8], max_queued=30)
    first = await busy(own_engine, batcher)
    waiting = await start(*(batcher.predict(pictures(1, seed)) for seed in range(15)))
    own_engine.gate.set()
    await asyncio.gather(first, *waiting)
    assert own_engine.batches == [1, 8, 4, 2, 1]
    await batcher.close()


async def test_fewer_pictures_than_the_smallest_size_make_a_batch_too(own_engine: FakeEngine) -> None:
    batcher = Batcher(own_engine.predict, batch_sizes=[4, 8], max_queued=20)
    assert is_answer_to(await batcher.predict(pictures(3)), pictures(3))
    assert own_engine.batches == [3]
    await batcher.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_when_one_of_its_threads_dies_the_others_still_answer_what_they_have() -> None:
    release = threading.Event()

    def dies_on_the_first(images: Pictures) -> Prediction:
        if (images[0] == pictures(1, 1)[0]).all():
            raise KeyboardInterrupt
        assert release.wait(20)
        return strongest_colour(images)

    batcher = Batcher(dies_on_the_first, batch_sizes=[1], max_queued=20, concurrency=2)
    survivor = await start(batcher.predict(pictures(1, 2)))
    await until(lambda: batcher.batch)
    dying, waiting = await start(batcher.predict(pictures(1, 1)), batcher.predict(pictures(1, 3)))
    for task in (dying, waiting):
        with pytest.raises(EngineError, match="has stopped"):
            await task
    assert not batcher.alive
    release.set()
    assert is_answer_to(await survivor[0], pictures(1, 2))
    await batcher.close()


# The background


async def test_between_ordinary_pictures_one_thread_at_a_time_works_on_the_background() -> None:
    engine = SteppedEngine()
    batcher = Batcher(engine.predict, batch_sizes=UP_TO_8, max_queued=20, concurrency=3, lately_s=60)
    engine.finish()
    await batcher.predict(pictures(1))
    tasks = await start(batcher.predict(pictures(2), background=True))
    await until(partial(engine.has_taken, 2))
    await asyncio.sleep(0.05)
    assert [len(batch) for batch in engine.batches] == [1, 1]
    engine.finish(2)
    assert is_answer_to(await tasks[0], pictures(2))
    await batcher.close()


async def test_another_engine_is_asked_only_while_this_one_has_nothing_to_do() -> None:
    engine, others = SteppedEngine(), threading.Lock()
    taken: list[int] = []

    def other(images: Pictures) -> Prediction:
        assert others.acquire(blocking=False), "it was asked twice at the same time"
        taken.append(len(images))
        time.sleep(0.002)
        others.release()
        return strongest_colour(images)

    batcher = Batcher(engine.predict, batch_sizes=UP_TO_8, max_queued=20, concurrency=2, lately_s=0)
    tasks = await start(batcher.predict(pictures(1)))
    await until(partial(engine.has_taken, 1))
    tasks += await start(*(batcher.predict(pictures(9), background=True, by=other) for _ in range(2)))
    await asyncio.sleep(0.02)
    assert taken == []
    engine.finish()
    await asyncio.gather(*tasks)
    assert sum(taken) == 18
    await batcher.close()


async def test_where_nobody_comes_the_background_runs_in_every_thread() -> None:
    engine = SteppedEngine()
    batcher = Batcher(engine.predict, batch_sizes=UP_TO_8, max_queued=20, concurrency=2)
    tasks = await start(batcher.predict(pictures(19), background=True))
    await until(partial(engine.has_taken, 2))
    engine.finish(3)
    assert is_answer_to(await tasks[0], pictures(19))
    assert sorted(len(batch) for batch in engine.batches) == [3, 8, 8]
    await batcher.close()


async def test_the_background_is_worked_on_when_nothing_else_waits(
    batcher: Batcher, own_engine: FakeEngine
) -> None:
    result = await batcher.predict(pictures(19), background=True)
    assert is_answer_to(result, pictures(19))
    assert own_engine.batches == [8, 8, 3]


async def test_while_ordinary_pictures_keep_coming_the_background_goes_singly(own_engine: FakeEngine) -> None:
    batcher = Batcher(own_engine.predict, batch_sizes=UP_TO_8, max_queued=20, lately_s=60)
    await batcher.predict(pictures(1))
    await batcher.predict(pictures(3), background=True)
    assert own_engine.batches == [1, 1, 1, 1]
    await batcher.close()


async def test_the_background_has_a_bound_of_its_own_and_does_not_count_as_waiting(
    own_engine: FakeEngine,
) -> None:
    batcher = Batcher(own_engine.predict, batch_sizes=UP_TO_8, max_queued=20, max_background=5)
    first = await busy(own_engine, batcher)
    waiting = await start(batcher.predict(pictures(5), background=True))
    assert batcher.queued == 0
    with pytest.raises(OverloadedError, match=r"5 pictures wait .* spare time and at most 5 may; .* adds 1"):
        await batcher.predict(pictures(1), background=True)
    waiting += await start(batcher.predict(pictures(20)))
    own_engine.gate.set()
    await asyncio.gather(first, *waiting)
    await batcher.close()


async def test_a_background_caller_who_leaves_frees_its_place(own_engine: FakeEngine) -> None:
    batcher = Batcher(own_engine.predict, batch_sizes=UP_TO_8, max_queued=20, max_background=5)
    first = await busy(own_engine, batcher)
    (leaving,) = await start(batcher.predict(pictures(5), background=True))
    leaving.cancel()
    await asyncio.sleep(0)
    staying = await start(batcher.predict(pictures(5, 2), background=True))
    own_engine.gate.set()
    assert is_answer_to(await staying[0], pictures(5, 2))
    await first
    await batcher.close()


async def test_closing_does_not_wait_for_the_background(own_engine: FakeEngine) -> None:
    batcher = Batcher(own_engine.predict, batch_sizes=UP_TO_8, max_queued=20)
    first = await busy(own_engine, batcher)
    background, ordinary = await start(
        batcher.predict(pictures(8), background=True), batcher.predict(pictures(3))
    )
    closing = asyncio.create_task(batcher.close())
    await until(lambda: not batcher.alive)
    own_engine.gate.set()
    await closing
    assert is_answer_to(await ordinary, pictures(3))
    with pytest.raises(EngineError, match="has stopped"):
        await background
    await first


async def test_between_ordinary_pictures_the_background_leaves_most_of_the_time_to_others() -> None:
    begun: list[tuple[float, float]] = []

    def slowly(images: Pictures) -> Prediction:
        began = time.perf_counter()
        time.sleep(0.005)
        begun.append((began, time.perf_counter()))
        return strongest_colour(images)

    batcher = Batcher(slowly, batch_sizes=UP_TO_8, max_queued=20, lately_s=60)
    await batcher.predict(pictures(1))
    await batcher.predict(pictures(4), background=True)
    for (began, ended), (after, _) in pairwise(begun[1:]):
        assert after - ended >= 15 * (ended - began)
    await batcher.close()


async def test_whoever_comes_while_the_background_rests_is_taken_before_it_goes_on() -> None:
    engine = SteppedEngine()
    batcher = Batcher(engine.predict, batch_sizes=UP_TO_8, max_queued=20, lately_s=60)
    tasks = await start(batcher.predict(pictures(1)))
    await until(lambda: engine.batches)
    tasks += await start(batcher.predict(pictures(2), background=True))
    engine.finish()
    await until(lambda: len(engine.batches) == 2)
    await asyncio.sleep(0.05)  # so that it rests for twenty times as long
    engine.finish()
    await until(lambda: batcher.background == 1)
    ordinary = pictures(5)
    tasks += await start(batcher.predict(ordinary))
    engine.finish(10)
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in engine.batches] == [1, 1, 5, 1]
    await batcher.close()


class SteppedEngine:
    """Waits inside each batch until it is told to finish it; keeps what the batches were made of."""

    def __init__(self) -> None:
        self.batches: list[Pictures] = []
        self._steps = threading.Semaphore(0)

    def predict(self, images: Pictures) -> Prediction:
        self.batches.append(images)
        assert self._steps.acquire(timeout=20)
        return strongest_colour(images)

    def has_taken(self, batches: int) -> bool:
        return len(self.batches) >= batches

    def finish(self, batches: int = 1) -> None:
        self._steps.release(batches)


arrivals = st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=3)


@settings(max_examples=40)
@given(rounds=st.lists(arrivals, min_size=1, max_size=8), max_batch=st.integers(1, 9))
def test_the_background_is_only_taken_when_nothing_else_waits(
    rounds: list[list[tuple[bool, int]]], max_batch: int
) -> None:
    asyncio.run(two_lanes(rounds, max_batch))


async def two_lanes(rounds: list[list[tuple[bool, int]]], max_batch: int) -> None:
    """Lets pictures arrive while the engine is inside a batch, and looks at the batch that it takes then."""
    engine = SteppedEngine()
    batcher = Batcher(engine.predict, batch_sizes=range(1, max_batch + 1), max_queued=1000)
    tasks = await start(batcher.predict(pictures(1)))
    await until(lambda: engine.batches)
    left = 0
    for arriving in rounds:
        calls = [
            batcher.predict(pictures(count) // 2 + 128 * ordinary, background=not ordinary)
            for ordinary, count in arriving
        ]
        tasks += await start(*calls)
        left += sum(count for _, count in arriving)
        waiting, seen = batcher.queued, len(engine.batches)
        if not left:
            continue
        engine.finish()
        await until(partial(engine.has_taken, seen + 1))
        taken = engine.batches[-1]
        left -= len(taken)
        assert len(taken) == min(waiting, max_batch) if waiting else len(taken) <= min(8, max_batch)
        assert (taken >= 128).all() if waiting else (taken < 128).all()
    engine.finish(1000)
    await asyncio.gather(*tasks)
    await batcher.close()


async def test_another_engine_gets_its_pictures_in_batches_of_its_own(
    batcher: Batcher, own_engine: FakeEngine
) -> None:
    other = FakeEngine()
    first = await busy(own_engine, batcher)
    waiting = await start(
        batcher.predict(pictures(2, 1), background=True),
        batcher.predict(pictures(3, 2), background=True, by=other.predict),
        batcher.predict(pictures(2, 3), background=True),
    )
    own_engine.gate.set()
    results = await asyncio.gather(*waiting)
    await first
    assert sum(own_engine.batches) == 5
    assert sum(other.batches) == 3
    for result, (count, seed) in zip(results, ((2, 1), (3, 2), (2, 3)), strict=True):
        assert is_answer_to(result, pictures(count, seed))
