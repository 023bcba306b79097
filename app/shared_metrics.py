"""Figures of several processes added up: each writes its own into one folder, and whoever is asked reads all.

What a process counted outlives it, since its successor goes on in the same files; what was true only while it
ran (what waits, memory) is gone with it.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from app import shared_folder

_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_STARTED: Final = "process_start_time_seconds"
_PROCESSOR_TIME: Final = "process_cpu_seconds"


def keep_in(folder: Path) -> None:
    """Names the folder to this process and to those that it starts."""
    os.environ[_FOLDER] = str(folder)


def join(place: int) -> None:
    """Makes the figures of this process part of the sum; `place` is its own among all that run.

    Raises:
        OSError: the folder is gone, as it is when all others have ended.
    """
    shared_folder.hold(Path(os.environ[_FOLDER]))
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def leave(place: int) -> None:
    """Takes what was true only while it ran out of the sum, once the process in this place has ended."""
    mark_process_dead(place)  # type: ignore[no-untyped-call]


def is_joined() -> bool:
    return bool(values.ValueClass._multiprocess)


class Present:
    """What is true of this process at the moment, for the sum: written down whenever `tell` is called."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """`registry` gets everything that every process tells and counts."""
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        self._process = ProcessCollector(registry=CollectorRegistry())
        self._own: Final = CollectorRegistry()
        self._waiting = Gauge(
            "classifier_pictures_waiting",
            "Pictures waiting for a decoder or in one (decode), and for the engine (queue).",
            ["stage"],
            registry=self._own,
            multiprocess_mode="livesum",
        )
        families = [family for family in self._process.collect() if family.type == "gauge"]
        self._gauges = {family.name: self._gauge(family.name, family.documentation) for family in families}
        self._processor = Counter(
            _PROCESSOR_TIME, "Total user and system CPU time spent in seconds.", registry=self._own
        )
        self._processor_s = 0.0

    def tell(self, waiting: Mapping[str, Callable[[], int]]) -> None:
        """Takes microseconds; `waiting` counts pictures by stage."""
        for stage, pictures in waiting.items():
            self._waiting.labels(stage).set(pictures())
        for family in self._process.collect():
            value = family.samples[0].value
            if family.name == _PROCESSOR_TIME:
                self._processor.inc(max(0.0, value - self._processor_s))
                self._processor_s = value
            elif family.name in self._gauges:
                self._gauges[family.name].set(value)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        mode = "livemin" if name == _STARTED else "livesum"
        return Gauge(name, meaning, registry=self._own, multiprocess_mode=mode)  # type: ignore[arg-type]
