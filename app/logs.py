"""How log lines look: words for a terminal, or one JSON object per line for machines."""

import json
import logging
import time
from typing import Any, Final, Literal

Format = Literal["text", "json"]

# Fields beside the message come with a record under this name; the terminal shows them as name=value.
FIELDS: Final = "fields"


class TextFormatter(logging.Formatter):
    """Time, level, message and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = super().format(record)
        fields = getattr(record, FIELDS, {})
        return " ".join([line, *(f"{name}={value}" for name, value in fields.items())])


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


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
