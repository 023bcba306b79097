"""Processor time that the service takes for a request beside its engine, from socket to socket.

    python benchmarks/request_path.py
    python benchmarks/request_path.py --model model/resnet18-cifar10/2

The first puts an engine that computes nothing into the service, so all that is left is HTTP, decoding,
queues and answers. The second runs a published version and compares with its engine alone, on batches of 8.
Processor time depends less than speed on who else wants the cores, but it still rises by half on a machine
that is full: compare runs that were made in turn.
"""

import argparse
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

import closed_loop
import machine
import numpy as np
import processes
from load import HOST, Body, multipart, raw
from numpy.typing import NDArray
from pictures import PICTURES, encoded

from app import engines, golden, start
from app.engines import Prediction
from app.loading import Choose
from app.manifest import GOLDEN_NAME, Card, Input
from app.repository import Repository
from app.settings import Settings

CLASSES: Final = tuple(f"class {index}" for index in range(10))
CLIENTS: Final = (1, 32, 128)
BATCH: Final = 8
MOST: Final = 64  # pictures at once that `NoEngine` has answers for
READY_WITHIN_S: Final = 120.0
PICTURE: Final = PICTURES[0]


class NoEngine:
    """Has the same answer ready for every picture, alone or among others, as golden pictures demand."""

    name = "none"
    precision = "float32"
    batch_sizes = (1, 2, 4, 8)
    concurrency = 1
    ahead = 0

    def __init__(self, *_: object) -> None:
        random = np.random.default_rng(0)
        row = random.dirichlet(np.ones(len(CLASSES))).astype(np.float32)
        self._probabilities = np.tile(row, (MOST, 1))

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        count = len(images)
        return Prediction(self._probabilities[:count], np.zeros(count, np.float32))

    def close(self) -> None:
        pass


def bodies() -> dict[str, list[Body]]:
    """What is sent, by kind. Not a constant: the service is started by importing this file once more."""
    pictures = [encoded(PICTURE, number) for number in range(PICTURE.different)]
    return {
        "raw": [raw(data) for data in pictures],
        "multipart": [multipart(data, "file", PICTURE.content_type) for data in pictures],
    }


def publish_nothing(root: Path) -> Path:
    """A version for `NoEngine`; its folder."""
    with Repository(root).staging("nothing") as staging:
        golden.write(golden.record(NoEngine()), staging.path / GOLDEN_NAME)
        return staging.publish(Card(class_names=CLASSES, input=Input(height=32, width=32))).path


def serve(version: Path, choose: Choose | None, listener: socket.socket, ready: Event) -> None:
    settings = Settings(
        model_root=version.parent.parent, model_name=version.parent.name, model_version=int(version.name)
    )
    start.run(settings, listener, ready.set, choose=choose)


def await_ready(process: BaseProcess, ready: Event) -> None:
    gives_up_at = time.monotonic() + READY_WITHIN_S
    while not ready.wait(0.1):
        if not process.is_alive():
            raise SystemExit("The service ended before it was ready; its log says why.")
        if time.monotonic() > gives_up_at:
            raise SystemExit(f"The service was not ready within {READY_WITHIN_S:g} s.")


@contextmanager
def running(version: Path, choose: Choose | None) -> Iterator[tuple[int, int]]:
    """The port and the process of the service, once it is ready; its log is thrown away, but written."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    with socket.create_server((HOST, 0), backlog=2048) as listener:
        process = context.Process(target=serve, args=(version, choose, listener, ready))
        process.start()
        try:
            await_ready(process, ready)
            yield listener.getsockname()[1], process.pid or 0
        finally:
            process.kill()
            process.join()


def cpu_us(
    port: int, process: int, sent: Sequence[Body], clients: int, seconds: float
) -> tuple[float, float]:
    """Microseconds of processor time for a request, and requests per second."""
    before = processes.cpu_s({process})
    load = closed_loop.run(port, "/predict", sent, clients=clients, seconds=seconds)
    if load.failed:
        raise SystemExit(f"{load.failed} of {load.failed + load.answered} requests failed.")
    return 1e6 * (processes.cpu_s({process}) - before) / load.answered, load.per_s


def engine_us(version: Path, seconds: float) -> float:
    """Microseconds of processor time for a picture, with nothing around the engine that `auto` takes."""
    engine = engines.choose(engines.AUTO, version)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 32, 32, 3), dtype=np.uint8)
    engine.predict(images)
    done, began, ends_at = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < ends_at:
        engine.predict(images)
        done += BATCH
    return 1e6 * (time.process_time() - began) / done


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument(
        "--model", type=Path, metavar="PATH", help="folder of a version, in place of nothing"
    )
    command.add_argument("--seconds", type=float, default=4.0, metavar="S", help="time for each row")
    return command


def main() -> None:
    options = parser().parse_args()
    found = machine.described()
    print(f"{found['processor']}, {found['cores']} cores, load {found['load_average']}, {PICTURE.title}\n")
    kinds = bodies()
    print("| body | clients | processor time per request | requests per second |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        version = options.model or publish_nothing(Path(folder))
        with running(version.resolve(), None if options.model else NoEngine) as (port, process):
            measure = partial(cpu_us, port, process, seconds=options.seconds)
            measure(kinds["raw"], CLIENTS[0])
            for kind, sent in kinds.items():
                for clients in CLIENTS:
                    spent_us, per_s = measure(sent, clients)
                    print(f"| {kind} | {clients} | {spent_us:.0f} us | {per_s:.0f} |", flush=True)
    if options.model:
        print(f"\nThe engine alone: {engine_us(options.model, options.seconds):.0f} us per picture")


if __name__ == "__main__":
    main()
