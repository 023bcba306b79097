import asyncio
from time import perf_counter

import pytest

from app.api.patience import patience

pytestmark = pytest.mark.anyio


async def test_what_takes_too_long_is_interrupted_on_time() -> None:
    began = perf_counter()
    with pytest.raises(TimeoutError), patience(0.05):
        await asyncio.sleep(30)
    assert 0.045 < perf_counter() - began < 5
    await asyncio.sleep(0)  # and is not interrupted again


async def test_what_is_done_in_time_is_left_alone() -> None:
    with patience(0.02) as limit:
        await asyncio.sleep(0)
    limit.end()
    await asyncio.sleep(0.05)


async def test_it_can_be_ended_from_outside() -> None:
    limit = patience(30)
    asyncio.get_running_loop().call_later(0.01, limit.end)
    with pytest.raises(TimeoutError), limit:
        await asyncio.sleep(30)


async def test_other_failures_pass() -> None:
    with pytest.raises(ValueError, match="mine"), patience(30):
        raise ValueError("mine")


@pytest.mark.parametrize("ends_too", [False, True])
async def test_a_cancellation_from_elsewhere_passes(*, ends_too: bool) -> None:
    inside = asyncio.Event()
    limits: list[patience] = []

    async def wait() -> None:
        with patience(30) as limit:
            limits.append(limit)
            inside.set()
            await asyncio.sleep(30)

    task = asyncio.create_task(wait())
    await inside.wait()
    if ends_too:
        limits[0].end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_inner_of_two_ends_alone() -> None:
    with patience(30):
        with pytest.raises(TimeoutError), patience(0.01):
            await asyncio.sleep(30)
        await asyncio.sleep(0)
