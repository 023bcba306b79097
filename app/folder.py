"""Files that may be pictures: found in one order whatever the file system's, read within a limit."""

import heapq
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from app.errors import EmptyFileError, FileError

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def find(roots: Sequence[Path], on_error: Callable[[Path, FileError], None]) -> Iterator[Path]:
    """Every file of `roots`, each once, sorted by the parts of its path.

    Folders are searched to any depth, without what is hidden in them and without following links to other
    folders. Only the names of the folders between a root and the present file are in memory.
    """
    for path, _ in groupby(heapq.merge(*(_walk(root, on_error) for root in sorted(roots)))):
        yield path


def _walk(root: Path, on_error: Callable[[Path, FileError], None]) -> Iterator[Path]:
    if not root.is_dir():
        yield root
        return
    open_folders = [_entries(root, on_error)]
    while open_folders:
        path, is_folder = next(open_folders[-1], (None, False))
        if path is None:
            open_folders.pop()
        elif is_folder:
            open_folders.append(_entries(path, on_error))
        else:
            yield path


def _entries(folder: Path, on_error: Callable[[Path, FileError], None]) -> Iterator[tuple[Path, bool]]:
    """What is in a folder, sorted by name, and whether it is a folder itself."""
    names, folders = [], set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    names.append(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        folders.add(entry.name)
    except OSError as error:
        on_error(folder, FileError(f"The folder cannot be read: {error.strerror}."))
    names.sort()
    for name in names:
        yield folder / name, name in folders


def read(path: Path, max_bytes: int) -> bytes:
    """What is in a file, at least one byte of it.

    Raises:
        FileError: it is no file, too long, or cannot be read.
        EmptyFileError: there is nothing in it.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe would wait for somebody to write
            raise FileError(f"It is {'a link to a folder' if stat.S_ISDIR(mode) else 'no regular file'}.")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise FileError(f"It cannot be read: {error.strerror}.") from error
    if len(data) > max_bytes:
        raise FileError(f"It has more than {max_bytes:,} bytes; --max-body-bytes allows more.")
    if not data:
        raise EmptyFileError("The file has no bytes.")
    return data


def shown(path: Path) -> str:
    """The path as one line of valid text: bytes and controls that are none become backslash escapes."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
