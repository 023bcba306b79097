"""The engine by itself, on the same cores: what no server around it can exceed."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app import engines

PROBE_S: Final = 1.0


class RawEngine:
    """Loaded and warm. `per_s` are the images per second of its fastest batch, measured anew by `probe`."""

    def __init__(self, name: str, folder: Path, shape: tuple[int, int, int]) -> None:
        self._engine = engines.choose(name, folder)
        self._shape = shape
        speeds = {size: self._speed(size, PROBE_S / 3) for size in self._engine.batch_sizes}
        self.batch = max(speeds, key=lambda size: speeds[size])
        self.probes: list[float] = []

    @property
    def name(self) -> str:
        """As it may be asked for."""
        return f"{self._engine.name}-{self._engine.precision}"

    @property
    def title(self) -> str:
        threads = f" in {self._engine.concurrency} threads" if self._engine.concurrency > 1 else ""
        return f"{self._engine.name} {self._engine.precision}, {self.batch} at a time{threads}"

    @property
    def per_s(self) -> float:
        """The best of all probes: what the machine can do when nothing disturbs it."""
        return max(self.probes, default=0.0)

    def probe(self) -> float:
        self.probes.append(self._speed(self.batch, PROBE_S))
        return self.probes[-1]

    def last(self) -> float:
        return self.probes[-1] if self.probes else self.probe()

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 [N, K] for uint8 [N, H, W, 3]."""
        probabilities: NDArray[np.float32] = self._engine.predict(images).probabilities
        return probabilities

    def _speed(self, size: int, seconds: float) -> float:
        images = np.random.default_rng(0).integers(0, 256, (size, *self._shape), dtype=np.uint8)
        return per_second(self._engine, images, seconds)


def per_second(engine: engines.Engine, images: NDArray[np.uint8], seconds: float) -> float:
    """Pictures per second of this batch, again and again in as many threads as the engine takes."""

    def work(ends_at: float) -> tuple[int, float]:
        engine.predict(images)
        done, began = 0, time.perf_counter()
        while (now := time.perf_counter()) < ends_at:
            engine.predict(images)
            done += len(images)
        return done, now - began

    with ThreadPoolExecutor(engine.concurrency) as threads:
        ends_at = [time.perf_counter() + seconds] * engine.concurrency
        shares: Sequence[tuple[int, float]] = list(threads.map(work, ends_at))
    return sum(done / spent for done, spent in shares)
