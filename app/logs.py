"""How log lines look: words for a terminal, or one JSON object per line for machines."""

import json
import logging
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal

Format = Literal["text", "json"]

# Fields beside the message come with a record under this name; the terminal shows them as name=value.
FIELDS: Final = "fields"


def log(logger: logging.Logger, level: int, message: str, fields: Mapping[str, object]) -> None:
    """One line; unlike `Logger.log`, does not look for the place in the code that it comes from."""
    extra = {FIELDS: fields}
    logger.handle(logger.makeRecord(logger.name, level, "", 0, message, (), None, extra=extra))


class TextFormatter(logging.Formatter):
    """Time, level, message and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = super().format(record)
        fields = getattr(record, FIELDS, {})
        return " ".join([line, *(f"{name}={value}" for name, value in fields.items())])

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """See `logging.Formatter`; the same, but many lines share a second."""
        return f"{_local_second(int(record.created))},{int(record.msecs):03d}"


class JsonFormatter(logging.Formatter):
    """The same as an object; control characters and line breaks in it are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def configuration(kind: Format, level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`: our lines and the server's go to standard error in one form."""
    classes: dict[Format, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}
    formatter = {"()": classes[kind], "fmt": "%(asctime)s %(levelname)s %(message)s"}
    logger = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {"app": logger, "uvicorn": logger},
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
