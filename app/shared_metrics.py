"""Figures of several processes added up: each writes its own into one folder, and whoever is asked reads all.

What a process counted outlives it, since its successor goes on in the same files; what was true only while it
ran (what waits, memory) is gone with it.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, values
from prometheus_client.multiprocess import MultiProcessCollector

from app import figures_file, shared_folder
from app.errors import SettingsError

_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # no file in it has a name that others could guess
_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_KINDS: Final = ("counter", "histogram", "gauge_livemin", "gauge_livesum")  # of which each has a file
_STARTED: Final = "process_start_time_seconds"
_PROCESSOR_TIME: Final = "process_cpu_seconds"
_LOG: Final = logging.getLogger("app.workers")


@contextmanager
def kept(places: int) -> Iterator[None]:
    """Room for what so many processes count, which this one starts: in memory, or else on disk.

    On disk an answer may have to wait for the file system, so it is told.

    Raises:
        SettingsError: there is no room in either.
    """
    full: list[str] = []
    for parent in dict.fromkeys([_MEMORY, _temporary()] if os.access(_MEMORY, os.W_OK) else [_temporary()]):
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(shared_folder.made_in(parent))
                _reserve(folder, places)
            except OSError as error:
                stack.close()  # so that what is told to be free is what was
                full.append(f"{parent} ({error.strerror}; {_free_kib(parent)} KiB are free)")
                continue
            if full:
                _LOG.warning("The workers' figures find no room in %s and are kept in %s.", full[0], parent)
            os.environ[_FOLDER] = str(folder)
            yield
            return
    raise SettingsError(
        f"{places} workers need {places * len(_KINDS) * figures_file.FIRST_BYTES // 1024} KiB for their "
        f"figures, and there is no room in {' or '.join(full)}. Free some there, let the process write, name "
        "another folder in TMPDIR, or start it with --workers 1."
    )


def _reserve(folder: Path, places: int) -> None:
    for place in range(1, places + 1):
        for kind in _KINDS:
            figures_file.reserve(folder / f"{kind}_{place}.db")


def _temporary() -> Path:
    """The folder that TMPDIR names, or that the system has."""
    with suppress(OSError):  # Python tries to write there; if it cannot, that is to be told with the rest
        return Path(tempfile.gettempdir())
    return Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108


def _free_kib(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free // 1024
    except OSError:
        return 0


def join(place: int) -> None:
    """Makes the figures of this process part of the sum; `place` is its own among all that run.

    Raises:
        OSError: the folder is gone, as it is when all others have ended.
    """
    shared_folder.hold(Path(os.environ[_FOLDER]))
    values.MmapedDict = figures_file.FiguresFile  # type: ignore[attr-defined]  # where it looks for one
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def leave(place: int) -> None:
    """Takes what was true only while it ran out of the sum, once the process in this place has ended."""
    for path in Path(os.environ[_FOLDER]).glob(f"gauge_live*_{place}.db"):
        figures_file.clear(path)


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
