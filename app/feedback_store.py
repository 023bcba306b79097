"""The file behind the feedback: recent predictions, and what people say they should have been.

SQLite in write-ahead mode: whatever was committed is there after a kill, and readers never wait for a writer.
No picture is in it. Predictions go when they are too old or too many, feedback when there is very much of it.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.errors import FeedbackStoreError, UnknownLabelError, UnknownPredictionError
from app.manifest import Manifest

MAX_LABELLED: Final = 1_000_000
NEWEST: Final = 10_000  # labelled predictions of a version that its figures are made of
_SCHEMA_VERSION: Final = 1
_BUSY_TIMEOUT_S: Final = 5.0  # other processes may write too
_BUSY_PAUSE_S: Final = 0.02
_SHOWN_CLASSES: Final = 20
_FILE: Final = "The file that CLASSIFIER_FEEDBACK_FILE names"
_SCHEMA: Final = (
    """CREATE TABLE versions (
        id INTEGER PRIMARY KEY, model TEXT, number INTEGER, class_names TEXT,
        UNIQUE (model, number, class_names)
    )""",
    """CREATE TABLE predictions (
        request_id TEXT, place INTEGER, at REAL, version INTEGER, probabilities BLOB,
        UNIQUE (request_id, place) ON CONFLICT REPLACE
    )""",
    "CREATE INDEX predictions_at ON predictions (at)",
    """CREATE TABLE labelled (
        request_id TEXT, place INTEGER, at REAL, version INTEGER, answer INTEGER, truth INTEGER,
        confidence REAL, brier REAL, UNIQUE (request_id, place) ON CONFLICT REPLACE
    )""",
    "CREATE INDEX labelled_version ON labelled (version)",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """An answer: to which picture of which request, when (Unix time), by whom, float32 [K]."""

    request_id: str
    place: int
    at: float
    manifest: Manifest
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Labelled:
    """What somebody said about an answer; `replaced` if somebody had before."""

    model: str
    version: int
    answer: str
    truth: str
    replaced: bool


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What is known of one version: arrays [N] over its newest labelled predictions.

    `brier` is the squared distance between the probabilities and the truth, 0 to 2 (Brier 1950,
    https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2).
    """

    model: str
    version: int
    class_names: tuple[str, ...]
    answer: NDArray[np.int64]
    truth: NDArray[np.int64]
    confidence: NDArray[np.float64]
    brier: NDArray[np.float64]


class FeedbackStore:
    """Belongs to the thread that makes it."""

    def __init__(self, path: Path, *, max_predictions: int, max_age_s: float) -> None:
        """Opens the file, or makes it.

        Raises:
            FeedbackStoreError: it cannot be written, or is something else.
        """
        self._max_predictions = max_predictions
        self._max_age_s = max_age_s
        self._versions: dict[tuple[str, int, tuple[str, ...]], int] = {}
        with _own_errors():
            self._connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)
            self._prepare()

    def remember(self, predictions: Iterable[Prediction]) -> None:
        """Keeps predictions, the newest under an id that is used again.

        Raises:
            FeedbackStoreError: they cannot be written.
        """
        try:
            with _own_errors(), self._connection:
                rows = [self._row(each) for each in predictions]
                self._connection.executemany("INSERT INTO predictions VALUES (?, ?, ?, ?, ?)", rows)
        except FeedbackStoreError:
            self._versions.clear()  # what was numbered in this transaction is not there any more
            raise

    def label(self, request_id: str, place: int, label: str, now: float) -> Labelled:
        """Keeps what a picture really showed; what was said before about the same one is forgotten.

        Raises:
            UnknownPredictionError: there was no such prediction, or it is too old.
            UnknownLabelError: the version that answered has no such class.
            FeedbackStoreError: it cannot be written.
        """
        with _own_errors(), self._connection:
            found = self._connection.execute(
                "SELECT version, probabilities FROM predictions "
                "WHERE request_id = ? AND place = ? AND at >= ?",
                (request_id, place, now - self._max_age_s),
            ).fetchone()
            if found is None:
                raise UnknownPredictionError(self._no_prediction(place))
            version, probabilities = found[0], np.frombuffer(found[1], dtype=np.float32).astype(np.float64)
            model, number, class_names = self._described(version)
            if label not in class_names:
                raise UnknownLabelError(_no_label(class_names))
            answer, truth = int(probabilities.argmax()), class_names.index(label)
            brier = float(((probabilities - np.eye(len(class_names))[truth]) ** 2).sum())
            replaced = self._is_labelled(request_id, place)
            self._connection.execute(
                "INSERT INTO labelled VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (request_id, place, now, version, answer, truth, float(probabilities[answer]), brier),
            )
        return Labelled(model, number, class_names[answer], label, replaced)

    def prune(self, now: float) -> None:
        """Forgets what is too old or too much.

        Raises:
            FeedbackStoreError: the file cannot be written.
        """
        with _own_errors(), self._connection:
            self._connection.execute("DELETE FROM predictions WHERE at < ?", (now - self._max_age_s,))
            for table, most in (("predictions", self._max_predictions), ("labelled", MAX_LABELLED)):
                # Rows are numbered in the order in which they came; those that were replaced leave gaps.
                self._connection.execute(
                    f"DELETE FROM {table} WHERE rowid <= (SELECT rowid FROM {table} ORDER BY rowid DESC "  # noqa: S608
                    "LIMIT 1 OFFSET ?)",
                    (most,),
                )

    def samples(self) -> list[Sample]:
        """What is known of every version that has feedback, by model and number.

        Raises:
            FeedbackStoreError: the file cannot be read.
        """
        with _own_errors():
            versions = self._connection.execute(
                "SELECT id FROM versions WHERE id IN (SELECT version FROM labelled) "
                "ORDER BY model, number, id"
            ).fetchall()
            return [self._sample(version) for (version,) in versions]

    def newest(self) -> int:
        """A number that changes with every piece of feedback, whichever process took it.

        Raises:
            FeedbackStoreError: the file cannot be read.
        """
        with _own_errors():
            found = self._connection.execute("SELECT max(rowid) FROM labelled").fetchone()
            return found[0] or 0

    def close(self) -> None:
        self._connection.close()

    def _sample(self, version: int) -> Sample:
        rows = self._connection.execute(
            "SELECT answer, truth, confidence, brier FROM labelled WHERE version = ? "
            "ORDER BY rowid DESC LIMIT ?",
            (version, NEWEST),
        ).fetchall()
        model, number, class_names = self._described(version)
        answer, truth, confidence, brier = zip(*rows, strict=True)
        return Sample(
            model,
            number,
            class_names,
            np.array(answer),
            np.array(truth),
            np.array(confidence),
            np.array(brier),
        )

    def _row(self, prediction: Prediction) -> tuple[str, int, float, int, bytes]:
        version = self._version(prediction.manifest)
        probabilities = prediction.probabilities.tobytes()
        return prediction.request_id, prediction.place, prediction.at, version, probabilities

    def _version(self, manifest: Manifest) -> int:
        # A number may be used again, for other classes.
        key = manifest.name, manifest.version, manifest.class_names
        if key not in self._versions:
            row = (manifest.name, manifest.version, json.dumps(manifest.class_names))
            self._connection.execute("INSERT OR IGNORE INTO versions VALUES (NULL, ?, ?, ?)", row)
            (self._versions[key],) = self._connection.execute(
                "SELECT id FROM versions WHERE model = ? AND number = ? AND class_names = ?", row
            ).fetchone()
        return self._versions[key]

    def _described(self, version: int) -> tuple[str, int, tuple[str, ...]]:
        model, number, class_names = self._connection.execute(
            "SELECT model, number, class_names FROM versions WHERE id = ?", (version,)
        ).fetchone()
        return model, number, tuple(json.loads(class_names))

    def _is_labelled(self, request_id: str, place: int) -> bool:
        query = "SELECT 1 FROM labelled WHERE request_id = ? AND place = ?"
        return self._connection.execute(query, (request_id, place)).fetchone() is not None

    def _prepare(self) -> None:
        """Makes the tables unless they are there; several processes may come at the same time."""
        if self._connection.execute("PRAGMA user_version").fetchone() != (_SCHEMA_VERSION,):
            self._make_tables()
        self._write_ahead()
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _write_ahead(self) -> None:
        """Changes the journal, for which SQLite asks for the file alone, and does not wait for it."""
        deadline = time.monotonic() + _BUSY_TIMEOUT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_PAUSE_S)
            else:
                return

    def _make_tables(self) -> None:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version not in (0, _SCHEMA_VERSION) or (version == 0 and tables):
                raise FeedbackStoreError(f"{_FILE} is a database of something else; name another file.")
            for statement in () if version else _SCHEMA:
                self._connection.execute(statement)

    def _no_prediction(self, place: int) -> str:
        which = f" with the index {place}" if place else ""
        return (
            f"No prediction{which} of this request id is known. The id is the header X-Request-ID of the "
            f"answer; ids are kept for {self._max_age_s / 3600:g} hours, at most "
            f"{self._max_predictions:,} of them."
        )


def _no_label(class_names: tuple[str, ...]) -> str:
    more = len(class_names) - _SHOWN_CLASSES
    shown = ", ".join(class_names[:_SHOWN_CLASSES]) + (f" and {more} more" if more > 0 else "")
    return f"The version that answered has no such class. It has: {shown}."


@contextmanager
def _own_errors() -> Iterator[None]:
    """SQLite's own words ("database or disk is full") name neither paths nor what anybody sent."""
    try:
        yield
    except sqlite3.Error as error:
        raise FeedbackStoreError(f"{_FILE} cannot be used: {error}.") from error


def read_samples(path: Path) -> list[Sample]:
    """The samples in a file that a store of another thread or process writes.

    Raises:
        FeedbackStoreError: the file cannot be read.
    """
    with closing(FeedbackStore(path, max_predictions=1, max_age_s=0)) as store:
        return store.samples()
