"""Files of results: a row per picture, written as soon as it is known, and gone on with after any end.

A row is one line. A line that was cut off is removed when the file is opened again. Parquet cannot grow, so
its rows collect in a journal beside it, which becomes the file in one step when there are no more.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final, Self

import numpy as np

from app import parquet
from app.errors import FileError
from app.rows import Csv, Form, Jsonl, Row, answered_by, columns, flat

SUFFIXES: Final = (".csv", ".jsonl", ".parquet")
_BLOCK_BYTES: Final = 64 * 1024


def check(path: Path) -> None:
    """Finds what can be wrong with the name of a file of results before there are any.

    Raises:
        FileError: its ending is none of `SUFFIXES`, its folder is not there, or a package is missing.
    """
    if path.suffix not in SUFFIXES:
        raise FileError(f"{path} ends in {path.suffix or 'nothing'!r}; results go to {', '.join(SUFFIXES)}.")
    if path.is_dir() or not path.parent.is_dir():
        wrong = f"{path} is a folder" if path.is_dir() else f"There is no folder {path.parent}"
        raise FileError(f"{wrong}; name a file in a folder that exists.")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise FileError(
            "Parquet needs the package pyarrow, which is not installed: python -m pip install pyarrow, or "
            "write .csv or .jsonl."
        )


class Results:
    """A file of rows that this process alone adds to."""

    def __init__(self, path: Path, form: Form, model: str, *, restart: bool) -> None:
        """Opens the file, as it is or empty, for answers of `model`; see `rows.answered_by`.

        Raises:
            FileError: it cannot be opened, holds something else, or is being written by another process.
        """
        self.path = path
        self._form = form
        self._file = _opened(path)
        try:
            self._prepare(restart=restart)
            self._known = np.sort(np.fromiter(self._fingerprints(model), dtype=np.uint64))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        """Rows that were there when it was opened."""
        return len(self._known)

    def __contains__(self, path: str) -> bool:
        """Whether that path had a row when the file was opened."""
        fingerprint = _fingerprint(path)
        place = int(np.searchsorted(self._known, fingerprint))
        return place < len(self._known) and bool(self._known[place] == fingerprint)

    def add(self, row: Row) -> None:
        """Writes a row: `path` and the fields of an answer.

        Raises:
            FileError: the disk is full, for instance.
        """
        self._write(self._form.write(row))

    def finish(self) -> None:
        """To be called after the last row."""

    def _prepare(self, *, restart: bool) -> None:
        start = self._form.start.encode()
        self._file.seek(0)
        found = b"" if restart else self._file.read(len(start))
        if not start.startswith(found):
            raise FileError(
                f"{self.path} holds something else. Name another file, or begin anew with --restart."
            )
        self._file.truncate(_whole_lines(self._file) if found == start else 0)
        if found != start:
            self._write(self._form.header)

    def _write(self, line: str) -> None:
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise FileError(f"{self.path} cannot be written: {error.strerror}.") from error

    def _fingerprints(self, model: str) -> Iterator[np.uint64]:
        for number, row in enumerate(self._rows(), 1):
            if answered_by(row) != model:
                raise FileError(
                    f"Row {number} of {self.path} is by {answered_by(row)}; now {model} would answer. Name "
                    "another file, choose the model of before, or begin anew with --restart."
                )
            yield _fingerprint(row["path"])

    def _rows(self) -> Iterator[Row]:
        self._file.seek(len(self._form.header.encode()))
        for number, line in enumerate(self._file, 1):
            try:
                yield self._form.read(line.decode())
            except (ValueError, LookupError, TypeError) as error:
                raise FileError(
                    f"Row {number} of {self.path} was not written by this command. Name another file, or "
                    "begin anew with --restart."
                ) from error


class ParquetResults(Results):
    """Rows in a journal beside the file, until there are no more."""

    def __init__(self, path: Path, class_names: Sequence[str], model: str, *, restart: bool) -> None:
        self._parquet = path
        self._columns = columns(class_names)
        journal = path.with_name(path.name + ".journal")
        self._is_whole = path.exists() and not journal.exists() and not restart
        if self._is_whole:
            parquet.unpack(path, journal)
        try:
            super().__init__(journal, Jsonl(flat), model, restart=restart)
        except FileError:
            if self._is_whole:
                journal.unlink()
            raise

    def add(self, row: Row) -> None:
        self._is_whole = False
        super().add(row)

    def finish(self) -> None:
        if not self._is_whole:
            parquet.pack(self._rows(), self._columns, self._parquet)
        self.path.unlink()


class Lines:
    """Rows as lines on standard output: path, label and probability between tabs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __contains__(self, path: str) -> bool:
        return False

    def add(self, row: Row) -> None:
        print(row["path"], row["label"], format(row["probability"], ".4f"), sep="\t")

    def finish(self) -> None:
        pass


def open_results(path: Path, class_names: Sequence[str], model: str, *, restart: bool = False) -> Results:
    """The file at `path`, in the form that its ending names; see `Results`.

    Raises:
        FileError: as `check` and `Results` say.
    """
    check(path)
    if path.suffix == ".parquet":
        return ParquetResults(path, class_names, model, restart=restart)
    return Results(path, Csv(class_names) if path.suffix == ".csv" else Jsonl(), model, restart=restart)


def _opened(path: Path) -> IO[bytes]:
    try:
        file = path.open("ab+")
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise FileError(f"Another process is writing {path}. Wait for it, or name another file.") from error
    return file


def _whole_lines(file: IO[bytes]) -> int:
    """How many bytes of the file are lines with an end."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - _BLOCK_BYTES)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _fingerprint(path: str) -> np.uint64:
    """8 bytes instead of the path: two of a million are the same once in thirty million runs."""
    return np.uint64(int.from_bytes(blake2b(path.encode(), digest_size=8).digest()))
