"""How the answer for one picture is written as a line of a file, and what of a written line is read again."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

Row = Mapping[str, Any]

_FLAT_MODEL: Final = ("version", "engine", "precision")


def columns(class_names: Sequence[str]) -> dict[str, type]:
    """Name and type of each column of a flat row."""
    return {
        "path": str,
        "label": str,
        "class_id": int,
        "probability": float,
        **{f"probability_{name}": float for name in class_names},
        "confidence_set": str,
        "coverage": float,
        "in_distribution": bool,
        "ood_score": float,
        "format": str,
        "width": int,
        "height": int,
        "notes": str,
        "model": str,
        **dict.fromkeys(_FLAT_MODEL, str),
    }


def flat(row: Row) -> dict[str, Any]:
    """A row with every value in a column of its own; see `columns`."""
    image, model, probable = row["image"], row["model"], row["confidence_set"]
    return {
        **{name: row[name] for name in ("path", "label", "class_id", "probability")},
        **{f"probability_{name}": probability for name, probability in row["probabilities"].items()},
        # A list, since there is no character that no name of a class has.
        "confidence_set": probable and json.dumps(probable["labels"], ensure_ascii=False),
        "coverage": probable and probable["coverage"],
        **{name: row[name] for name in ("in_distribution", "ood_score")},
        **{name: image[name] for name in ("format", "width", "height")},
        "notes": " ".join(image["notes"]),
        "model": model["name"],
        **{name: model[name] for name in _FLAT_MODEL},
    }


def answered_by(row: Row) -> str:
    """The model of a row, flat or not, in words."""
    model = row["model"] if isinstance(row["model"], dict) else {**row, "name": row["model"]}
    return f"{model['name']} version {model['version']} on {model['engine']} ({model['precision']})"


class Form(Protocol):
    """A way to write rows as lines. `header` is the first line, if any; every file begins with `start`."""

    header: str
    start: str

    def write(self, row: Row) -> str: ...

    def read(self, line: str) -> Row:
        """At least the path and the model of a line.

        Raises:
            ValueError, LookupError: `write` did not write it.
        """


class Csv:
    """Flat rows."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._columns = list(columns(class_names))
        self.header = self.start = _csv_line(self._columns)

    def write(self, row: Row) -> str:
        return _csv_line(flat(row).values())

    def read(self, line: str) -> Row:
        return dict(zip(self._columns, next(csv.reader([line])), strict=True))


class Jsonl:
    """Rows as they are, or in another `shape`."""

    header = ""
    start = '{"path": "'

    def __init__(self, shape: Callable[[Row], Row] = dict) -> None:
        self._shape = shape

    def write(self, row: Row) -> str:
        return json.dumps(self._shape(row), ensure_ascii=False) + "\n"

    def read(self, line: str) -> Row:
        row: Row = json.loads(line)
        return row


def _csv_line(values: Iterable[object]) -> str:
    """One line whatever the values hold, so that a line that was cut off can be told from whole ones."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(
        [
            value.replace("\n", "\\n").replace("\r", "\\r") if isinstance(value, str) else value
            for value in values
        ]
    )
    return stream.getvalue()
