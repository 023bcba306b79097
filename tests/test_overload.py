"""A real process is sent several times what it can do: it answers what it takes and refuses the rest."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import httpx2 as httpx
import pytest
from asgi import until
from conftest import Encode, free_port
from slow_service import PICTURES_PER_BATCH, SECONDS_PER_BATCH
from test_service import environment

from app.repository import Repository

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

CAPACITY_PER_S = PICTURES_PER_BATCH / SECONDS_PER_BATCH
SECONDS = 3.0
REFUSED_WITHIN_MS = 50


class Sample(NamedTuple):
    status: int
    retry_after: str
    seconds: float


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def port(repository: Repository, log: Path) -> Iterator[int]:
    with serving(repository, log) as port:
        yield port


@contextmanager
def serving(repository: Repository, log: Path, *options: object) -> Iterator[int]:
    port = free_port()
    arguments = map(str, (Path(__file__).with_name("slow_service.py"), repository.root, port, *options))
    with log.open("w") as stream:
        process = subprocess.Popen([sys.executable, *arguments], env=environment(), stderr=stream)
    try:
        wait_until_ready(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", verify=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail("the service ended before it was ready")


def logged(log: Path) -> list[dict[str, Any]]:
    """Every line is an object."""
    return [json.loads(line) for line in log.read_text().splitlines()]


async def request(port: int, method: str, path: str, body: bytes = b"", deadline_ms: int = 30_000) -> Sample:
    """One request on a connection of its own; the time is until the whole answer is there."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: image/png\r\n"
    head += f"X-Request-Timeout-Ms: {deadline_ms}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    lines = answer.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:])
    return Sample(int(lines[0].split()[1]), fields.get("retry-after", ""), time.perf_counter() - began)


async def offered(port: int, picture: bytes, per_s: float, deadline_ms: int = 30_000) -> list[Sample]:
    """Requests at their times, whether or not earlier ones have been answered."""
    began = time.perf_counter()
    running = []
    for number in range(round(per_s * SECONDS)):
        await asyncio.sleep(max(0.0, began + number / per_s - time.perf_counter()))
        running.append(asyncio.create_task(request(port, "POST", "/predict", picture, deadline_ms)))
    return await asyncio.gather(*running)


async def test_beyond_saturation_it_answers_what_it_can_and_refuses_the_rest_at_once(
    port: int, encode: Encode, log: Path
) -> None:
    picture = encode()
    alone = await request(port, "POST", "/predict", picture)
    load = asyncio.create_task(offered(port, picture, 5 * CAPACITY_PER_S))
    await asyncio.sleep(SECONDS / 2)
    probes = [await request(port, "GET", path) for path in ("/livez", "/readyz", "/metrics")]
    samples = await load
    answered = [sample for sample in samples if sample.status == 200]
    refused = [sample for sample in samples if sample.status == 503]

    assert len(answered) + len(refused) == len(samples)
    assert len(answered) >= 0.85 * CAPACITY_PER_S * SECONDS
    assert all(int(sample.retry_after) >= 1 for sample in refused)
    # Nobody waits behind more than what may wait; the rest of the bound is for a machine with other work.
    in_time_s = median(sample.seconds for sample in answered)
    assert in_time_s < 5 * SECONDS_PER_BATCH + alone.seconds
    assert median(sample.seconds for sample in refused) < in_time_s
    assert [probe.status for probe in probes] == [200, 200, 200]

    await until(lambda: log.read_text().count('"/predict"') == len(samples) + 1)
    classified = [entry for entry in logged(log) if entry.get("path") == "/predict"]
    assert sorted(entry["status"] for entry in classified) == sorted(
        sample.status for sample in (alone, *samples)
    )
    at_once = [entry for entry in classified if entry["status"] == 503]
    assert {entry["code"] for entry in at_once} == {"overloaded"}
    # By the service's own clock, so that a client that waits for a core is not held against it.
    assert median(entry["ms"] for entry in at_once) < REFUSED_WITHIN_MS

    after = await request(port, "POST", "/predict", picture)
    assert (after.status, after.seconds < alone.seconds + 5 * SECONDS_PER_BATCH) == (200, True)


async def test_beyond_saturation_deadlines_are_kept_and_cost_no_answers(
    repository: Repository, encode: Encode, log: Path
) -> None:
    """Five seconds' pictures may wait: an engine that took the oldest of them would answer nobody in time."""
    picture, deadline_ms = encode(), 1500
    room = round(10 * SECONDS_PER_BATCH * CAPACITY_PER_S)
    with serving(repository, log, SECONDS_PER_BATCH, room) as port:
        for _ in range(2):
            await request(port, "POST", "/predict", picture)
        samples = await offered(port, picture, 5 * CAPACITY_PER_S, deadline_ms)
    answered = [sample for sample in samples if sample.status == 200]
    assert len(answered) >= 0.85 * CAPACITY_PER_S * SECONDS
    # By the clock of the client, which may wait for a core with its answer in hand.
    assert median(sample.seconds for sample in answered) < deadline_ms / 1000
    late = [sample for sample in samples if sample.status == 504]
    assert len(late) <= 0.1 * len(answered)
    assert {sample.status for sample in samples} <= {200, 503, 504}
