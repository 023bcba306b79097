"""Rows from and to Parquet files, a part at a time; files appear under their name when they are complete."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from app.errors import FileError
from app.rows import Jsonl, Row

_ROWS_AT_ONCE: Final = 10_000


def pack(rows: Iterator[Row], types: Mapping[str, type], path: Path) -> None:
    """Makes flat rows with columns of these types a Parquet file at `path`.

    Raises:
        FileError: it cannot be written.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    arrow: dict[type, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(name, arrow[kind]) for name, kind in types.items()])
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            with ParquetWriter(file, schema) as writer:
                while chunk := list(islice(rows, _ROWS_AT_ONCE)):
                    writer.write_table(pa.Table.from_pylist(chunk, schema))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}.") from error


def unpack(path: Path, journal: Path) -> None:
    """Makes the rows of a Parquet file the lines of a `journal`.

    Raises:
        FileError: it is no Parquet file, or the journal cannot be written.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    form, part = Jsonl(), journal.with_name(journal.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as lines:
            for batch in ParquetFile(path).iter_batches(_ROWS_AT_ONCE):
                lines.writelines(map(form.write, batch.to_pylist()))
        part.replace(journal)
    except pa.ArrowException as error:
        part.unlink(missing_ok=True)
        raise FileError(f"{path} is no Parquet file. Name another, or begin anew with --restart.") from error
    except OSError as error:
        raise FileError(f"{path} cannot be gone on with: {error.strerror or error}.") from error
