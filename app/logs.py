"""How log lines look: words for a terminal, or one JSON object per line for machines."""

import json
import logging
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler

Format = Literal["text", "json"]

# Fields beside the message come with a record under this name; the terminal shows them as name=value.
FIELDS: Final = "fields"

COLLECTED_S: Final = 0.05
# How long whoever logs an error waits until it is written, and how long the process does at its end.
ERROR_WITHIN_S: Final = 0.1
END_WITHIN_S: Final = 1.0
MAX_LINES: Final = 20_000  # some seconds of a busy service, 5 MB


def log(logger: logging.Logger, level: int, message: str, fields: Mapping[str, object]) -> None:
    """One line; unlike `Logger.log`, does not look for the place in the code that it comes from."""
    logger.handle(_record(logger.name, level, message, fields))


def _record(name: str, level: int, message: str, fields: Mapping[str, object]) -> logging.LogRecord:
    """As Python makes it, from one of the same kind that was made before: two thirds of it never change."""
    like, now = _first(name, level, message), time.time()
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__ = {
        **like,
        "created": now,
        "msecs": float(int(1000 * now) % 1000),
        "relativeCreated": like["relativeCreated"] + 1000 * (now - like["created"]),
        FIELDS: fields,
    }
    return record


@lru_cache(256)
def _first(name: str, level: int, message: str) -> dict[str, Any]:
    return vars(logging.LogRecord(name, level, "", 0, message, (), None))


class Collecting(_StreamHandler):
    """Writes the lines of a moment together, in a thread of its own; errors at once, with all before them.

    A system call for each line would take a busy service as long as making it. Whoever stops reading the log
    stops neither the service nor its end: it keeps `MAX_LINES` for them, and then says how many are missing.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._lines: deque[str] = deque()
        self._missing = 0
        self._due = threading.Event()
        self._hurry = threading.Event()
        self._progress = threading.Condition()
        self._is_writing = self._is_stuck = False
        threading.Thread(target=self._write_when_due, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  # as every handler does: a line must not end a request
            self.handleError(record)
            return
        if len(self._lines) >= MAX_LINES:
            self._missing += 1
            return
        self._lines.append(line)
        if record.levelno >= logging.ERROR and not self._is_stuck:
            self._is_stuck = not self._is_written(ERROR_WITHIN_S)  # so that nobody waits again
        elif not self._due.is_set():
            self._due.set()

    def flush(self) -> None:
        """Lets the thread write what there is; called when Python ends, too."""
        self._is_written(END_WITHIN_S)

    def _is_written(self, within_s: float) -> bool:
        with self._progress:
            self._hurry.set()
            self._due.set()
            return self._progress.wait_for(lambda: not (self._lines or self._is_writing), within_s)

    def _write_when_due(self) -> None:
        while self._due.wait():
            self._hurry.wait(COLLECTED_S)
            self._due.clear()
            self._hurry.clear()
            with self._progress:
                self._is_writing, lines = True, self._taken()
            if lines:
                with suppress(OSError, ValueError):  # nobody is left to be told
                    _write(self.stream, "\n".join([*lines, ""]))
            with self._progress:
                self._is_writing = self._is_stuck = False
                self._progress.notify_all()

    def _taken(self) -> list[str]:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._missing:
            lines.append(self.format(_missing(self._missing)))
            self._missing = 0
        return lines


def _write(stream: TextIO, text: str) -> None:
    """Past the buffer of a file, whose lock Python needs to end and would not get while nobody reads."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if raw is None:
        stream.write(text)
        stream.flush()
        return
    left = memoryview(text.encode(errors="backslashreplace"))
    while left:
        written = raw.write(left)
        if written is None:  # it does not block, and is full
            time.sleep(COLLECTED_S)
        left = left[written or 0 :]


def _missing(count: int) -> logging.LogRecord:
    message = f"{count:,} lines are missing here: the log was not read fast enough."
    return logging.LogRecord(__name__, logging.WARNING, "", 0, message, (), None)


class TextFormatter(logging.Formatter):
    """Time, level, message and fields; of one process among several its number too."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._process = {} if multiprocessing.parent_process() is None else {"pid": os.getpid()}

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`, which is asked where there is more than that to write."""
        if record.exc_info or record.exc_text or record.stack_info:
            line = super().format(record)
        else:
            line = f"{self.formatTime(record)} {record.levelname} {record.getMessage()}"
        fields: Mapping[str, object] = {**record.__dict__.get(FIELDS, {}), **self._process}
        return " ".join([line, *[f"{name}={value}" for name, value in fields.items()]])

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """See `logging.Formatter`; the same, but many lines share a second."""
        return f"{_local_second(int(record.created))},{int(record.msecs):03d}"


class JsonFormatter(logging.Formatter):
    """The same as an object; control characters and line breaks in it are escaped."""

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": self._pid,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def configuration(kind: Format, level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`: our lines and the server's go to standard error in one form."""
    classes: dict[Format, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}
    formatter = {"()": classes[kind]}
    logger = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "handlers": {"stderr": {"()": Collecting, "formatter": "line"}},
        "loggers": {"app": logger, "uvicorn": logger},
        # Python would write what others have to say, asyncio's errors above all, as it is and at once.
        "root": {"handlers": ["stderr"], "level": "WARNING"},
    }


def be_brief() -> None:
    """Lets Python not look up for each line what none of ours says: its process and thread.

    See https://docs.python.org/3/howto/logging.html#optimization.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _time(record: logging.LogRecord) -> str:
    return f"{_utc_second(int(record.created))}.{int(record.msecs):03d}Z"


@lru_cache(2)
def _local_second(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


@lru_cache(2)
def _utc_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
