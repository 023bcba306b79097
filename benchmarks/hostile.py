"""Sends damaged pictures to a running service by the thousand, good ones among them, and says what came back.

    python benchmarks/hostile.py --pictures 100000
    python benchmarks/hostile.py --pictures 100000 --model model/resnet18-cifar10

It starts `python -m app` in a process of its own (without `--model` with a tiny model that tells
colours), and exits with 1 if any answer was a 5xx, a good picture was answered wrongly, the process died, or
its memory grew by more than a tenth between the first tenth of the pictures and the end.
"""

import argparse
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import corpus  # noqa: E402  # the corpus of the tests
import fakes  # noqa: E402

from app.repository import Repository  # noqa: E402

GOOD_EVERY: Final = 20
SLOWEST: Final = 5
LARGEST_BYTES: Final = 300_000
GROWTH: Final = 1.10
HEADERS: Final = {"Content-Type": "application/octet-stream"}
# The service as it is, but for the engine, which is the one of the tests.
COLOURS: Final = (
    "import sys; sys.path.insert(0, 'tests'); import fakes; from app import engines; "
    "engines.choose = lambda *_, **__: fakes.FakeEngine(); from app import __main__; "
    "sys.exit(__main__.main(sys.argv[1:]))"
)


@dataclass
class Tally:
    """What came back; `slowest` are seconds and the sample and seed that took them."""

    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, str, int]] = field(default_factory=list)
    good: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def service(model: Path | None, root: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A ready service and its port; `root` is a folder for a tiny model, used without `model`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    if model is None:
        fakes.publish_fake(Repository(root))
        start, model = [sys.executable, "-c", COLOURS], root / fakes.MODEL
    else:
        start = [sys.executable, "-m", "app"]
    options = ["--model-root", str(model.parent.resolve()), "--model-name", model.name, "--port", str(port)]
    quiet = ["--log-level", "error", "--drain-s", "0"]
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and options
        [*start, *options, *quiet], cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        wait_until_ready(process, port)
        yield process, port
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Asks until the answer is 200."""
    while process.poll() is None:
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"The service ended with {process.returncode} before it was ready.")


class Client:
    """One connection, opened again whenever the service has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def predict(self, data: bytes) -> tuple[int, dict[str, object]]:
        """Status and document; one more try where the connection had been closed meanwhile."""
        try:
            return self._predict(data)
        except (OSError, HTTPException):
            self._connection.close()
            return self._predict(data)

    def _predict(self, data: bytes) -> tuple[int, dict[str, object]]:
        self._connection.request("POST", "/predict", data, HEADERS)
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def attack(port: int, numbers: "queue.SimpleQueue[int]", expected: dict[str, object], tally: Tally) -> None:
    """Sends pictures until there are no more numbers; each number makes one picture."""
    client = Client(port)
    names = [
        name for name in sorted(corpus.GOOD | corpus.REFUSED) if len(corpus.sample(name)) <= LARGEST_BYTES
    ]
    while True:
        try:
            number = numbers.get_nowait()
        except queue.Empty:
            return
        random = np.random.default_rng(number)
        is_good = number % GOOD_EVERY == 0
        name = str(random.choice(list(expected) if is_good else names))
        data = corpus.sample(name) if is_good else corpus.mutated(corpus.sample(name), random) or b"x"
        began = time.perf_counter()
        status, document = client.predict(data)
        record(tally, time.perf_counter() - began, status, document, name, number)
        if is_good and document.get("probabilities") != expected[name]:
            tally.wrong.append(f"{name} in picture {number}: {status}")


def record(
    tally: Tally, seconds: float, status: int, document: dict[str, object], name: str, number: int
) -> None:
    """Adds one answer."""
    with tally.lock:
        tally.statuses[status] += 1
        tally.codes[str(document.get("code", "answered"))] += 1
        tally.good += number % GOOD_EVERY == 0
        tally.slowest = sorted([*tally.slowest, (seconds, name, number)], reverse=True)[:SLOWEST]


def tenths(numbers: range) -> list[range]:
    """Ten parts of about the same length, in order."""
    ends = [len(numbers) * part // 10 for part in range(11)]
    return [numbers[start:end] for start, end in pairwise(ends)]


def send(port: int, numbers: range, connections: int, expected: dict[str, object], tally: Tally) -> None:
    """Sends the pictures of these numbers over several connections at once."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers:
        waiting.put(number)
    threads = [
        threading.Thread(target=attack, args=(port, waiting, expected, tally)) for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    """Prints the report; 1 if anything in it is not as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=100_000, help="how many (default: 100000)")
    parser.add_argument("--connections", type=int, default=4, help="at the same time (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first picture (default: 0)")
    parser.add_argument(
        "--model", type=Path, help="folder of a model (default: a tiny one that tells colours)"
    )
    options = parser.parse_args()
    tally, began = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as root, service(options.model, Path(root)) as (process, port):
        client = Client(port)
        expected = {name: client.predict(corpus.sample(name))[1]["probabilities"] for name in corpus.GOOD}
        memory_mib = []
        for numbers in tenths(range(options.seed, options.seed + options.pictures)):
            send(port, numbers, options.connections, expected, tally)
            memory_mib.append(resident_mib(process.pid))
        died = process.poll() is not None
    faults = sum(count for status, count in tally.statuses.items() if status >= 500)
    print(f"{tally.statuses.total()} pictures in {time.monotonic() - began:.0f} s, {tally.good} of them good")
    print("statuses:", dict(sorted(tally.statuses.items())), "codes:", dict(tally.codes.most_common()))
    print("slowest:", "; ".join(f"{took:.2f} s {name} ({number})" for took, name, number in tally.slowest))
    print("memory in MiB after every tenth:", *map(round, memory_mib), "5xx:", faults)
    print("answered wrongly:", tally.wrong[:5] or "none")
    return int(bool(faults or tally.wrong or died or memory_mib[-1] > GROWTH * memory_mib[0]))


if __name__ == "__main__":
    sys.exit(main())
