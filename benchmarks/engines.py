"""Pictures per second of every engine that can run a published version here, in turn on the same cores.

    python benchmarks/engines.py --model model/resnet18-cifar10/2

Each engine takes so many pictures per round, in as many threads as it can use, so that a machine that slows
down slows all of them alike. The median counts. Pixels go in, probabilities come out: no decoding, no HTTP.
Loading is timed once, with every batch size run once after it, as the service does before it is ready.
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app import manifest
from app.cores import available_cores
from app.engines import AUTO, Engine, candidates, choose, predict_all
from app.errors import EngineUnavailableError

REFERENCE = "tensorflow"


@dataclass
class Contender:
    """A loaded engine and the seconds that pictures took, by their number."""

    name: str
    engine: Engine
    threads: ThreadPoolExecutor
    ready_s: float
    taken_s: dict[int, list[float]] = field(default_factory=dict)

    def run(self, images: NDArray[np.uint8]) -> None:
        began = time.perf_counter()
        predict_all(self.engine, images, self.threads)
        self.taken_s.setdefault(len(images), []).append(time.perf_counter() - began)

    def pictures_per_second(self, size: int) -> float:
        return size / statistics.median(self.taken_s[size])


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument("--model", type=Path, required=True, metavar="PATH", help="folder of a version")
    command.add_argument(
        "--batches", type=int, nargs="+", default=[1, 8, 64], metavar="N", help="pictures at once"
    )
    command.add_argument(
        "--rounds", type=int, default=20, metavar="N", help="times that each engine does each"
    )
    command.add_argument("--threads", type=int, default=0, metavar="N", help="cores for an engine; 0 for all")
    return command


def load(folder: Path, threads: int, shape: tuple[int, int, int]) -> list[Contender]:
    """Every engine that can run the version, warm, on pictures uint8 ``[N, *shape]``."""
    contenders = []
    for name in candidates(AUTO):
        began = time.perf_counter()
        try:
            engine = choose(name, folder, threads)
        except EngineUnavailableError as error:
            print(f"{name} is left out: {error}")
            continue
        for size in engine.batch_sizes:
            engine.predict(np.zeros((size, *shape), np.uint8))
        ready_s = time.perf_counter() - began
        contenders.append(Contender(name, engine, ThreadPoolExecutor(engine.concurrency), ready_s))
    return contenders


def table(contenders: list[Contender], sizes: Sequence[int]) -> str:
    """In Markdown; in brackets how many times as fast as the reference."""
    reference = next((each for each in contenders if each.name == REFERENCE), contenders[-1])
    heads = [f"{size} picture{'s' * (size > 1)}, per second" for size in sizes]
    lines = ["| engine | ready after | " + " | ".join(heads) + " |", "|---" * (2 + len(sizes)) + "|"]
    for each in contenders:
        speeds = [each.pictures_per_second(size) for size in sizes]
        ratios = [
            speed / reference.pictures_per_second(size) for speed, size in zip(speeds, sizes, strict=True)
        ]
        cells = [f"{speed:.0f} ({ratio:.2f}x)" for speed, ratio in zip(speeds, ratios, strict=True)]
        lines.append(f"| {each.name} | {each.ready_s:.1f} s | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    options = parser().parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    shape = manifest.read(options.model / manifest.FILE_NAME).input
    pixels = (shape.height, shape.width, shape.channels)
    contenders = load(options.model, options.threads, pixels)
    images = np.random.default_rng(0).integers(0, 256, (max(options.batches), *pixels), dtype=np.uint8)
    for size in options.batches:
        for _ in range(options.rounds):
            for contender in contenders:
                contender.run(images[:size])
    print(f"{options.threads or available_cores()} cores, median of {options.rounds} rounds\n")
    print(table(contenders, options.batches))


if __name__ == "__main__":
    main()
