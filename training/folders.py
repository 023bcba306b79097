"""Somebody's own pictures: a folder with one sub-folder per class, decoded as the service decodes uploads.

The decoded pictures lie in a temporary file that is mapped into memory, so their number is bounded by the
disk: what the training touches is read when it is touched, and the system takes the memory back.
"""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import imaging
from app.cores import available_cores
from app.errors import PictureError, ServiceError
from app.folder import find, shown
from training.data import Dataset
from training.errors import DataError
from training.progress import decoding_progress
from training.split import stratified

TEST_SHARE = 0.2  # of each class, where the folder does not say itself which are the test pictures
SMALLEST_TRAIN = 8  # pictures of a class to learn it from
SMALLEST_TEST = 1
PARTS = ("train", "test")
IN_FLIGHT = 256  # pictures that are decoded before the next are begun

Report = Callable[[str], None]


@dataclass(frozen=True)
class _Files:
    """Files of all classes in one order, ``labels`` int64 ``[N]`` beside them."""

    paths: list[Path]
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "_Files":
        return _Files([self.paths[row] for row in rows], self.labels[rows])


def load_folder(root: Path, image_size: int, *, scratch: Path, seed: int = 0, report: Report) -> Dataset:
    """Reads every picture below ``root``, squashed to ``image_size`` pixels a side, in a random order.

    The classes are the sub-folders of ``root``, or of its sub-folders ``train`` and ``test`` where it has
    both; otherwise a fifth of each class becomes its test pictures, drawn by ``seed``. ``report`` hears which
    files are skipped because they are no pictures. The decoded pictures take ``3 * image_size ** 2`` bytes
    each of a file in ``scratch`` that vanishes with the process.

    Raises:
        DataError: there are fewer than two classes, one has too few pictures, or the disk is full.
    """
    names, train, test = _found(root, seed, report)
    random = np.random.default_rng((seed, 2))
    train, test = (part.take(random.permutation(len(part.paths))) for part in (train, test))
    images, kept = _decoded(train.paths + test.paths, image_size, scratch, report)
    learnt = int(kept[: len(train.paths)].sum())
    labels = np.concatenate([train.labels, test.labels])[kept]
    _check_counts(root, names, labels[:learnt], labels[learnt:], "readable ")
    return Dataset(
        names,
        images[:learnt],
        labels[:learnt],
        images[learnt:],
        labels[learnt:],
        name=root.resolve().name,
        skipped=int((~kept).sum()),
    )


def says_what_is_for_testing(root: Path) -> bool:
    """Whether a folder holds the two parts itself, so that none is drawn."""
    return all((root / part).is_dir() for part in PARTS)


def _found(root: Path, seed: int, report: Report) -> tuple[tuple[str, ...], _Files, _Files]:
    """The names of the classes, and the files to learn from and to test on."""
    if says_what_is_for_testing(root):
        names = tuple(sorted({name for part in PARTS for name in _class_names(root / part)}))
        train, test = (_files(root / part, names, report) for part in PARTS)
    else:
        names = _class_names(root)
        files = _files(root, names, report)
        rows = np.arange(len(files.paths))
        for_test = stratified(files.labels, round(TEST_SHARE * len(rows)), seed)
        train, test = files.take(np.setdiff1d(rows, for_test)), files.take(for_test)
    if len(names) < 2:
        raise DataError(
            f"{root} has {len(names)} sub-folder{'s' * (len(names) != 1)} with a class in it; at least 2 are "
            "needed, one for each class, named as the class is called."
        )
    _check_counts(root, names, train.labels, test.labels)
    return names, train, test


def _class_names(root: Path) -> tuple[str, ...]:
    folders = (child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    names = tuple(sorted(folders))
    for name in names:
        if not name.isprintable():
            raise DataError(
                f"the folder {shown(root / name)} cannot name a class, for it has characters that cannot be "
                "shown. Rename it."
            )
    return names


def _files(root: Path, names: tuple[str, ...], report: Report) -> _Files:
    paths, labels = [], []
    for label, name in enumerate(names):
        folder = root / name
        if folder.is_dir():
            found = list(find([folder], lambda path, error: report(f"{shown(path)}: {error}")))
            paths += found
            labels += [label] * len(found)
    return _Files(paths, np.array(labels, np.int64))


def _check_counts(
    root: Path,
    names: tuple[str, ...],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    kind: str = "",
) -> None:
    """Every class can be learnt and measured.

    Raises:
        DataError: the message names each class that cannot, with what it has.
    """
    counts = zip(names, *(np.bincount(part, minlength=len(names)) for part in (train, test)), strict=True)
    poor = [
        f"{name} ({learnt} + {tested})"
        for name, learnt, tested in counts
        if learnt < SMALLEST_TRAIN or tested < SMALLEST_TEST
    ]
    if poor:
        raise DataError(
            f"{root} has too few {kind}pictures, to learn from + to test on, of: {', '.join(poor)}. Each "
            f"class needs at least {SMALLEST_TRAIN} + {SMALLEST_TEST}. Add pictures, or take the folder away."
        )


def _decoded(
    paths: list[Path], image_size: int, scratch: Path, report: Report
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pictures uint8 ``[N, size, size, 3]`` of the files that are pictures, and which these are."""
    kept = np.zeros(len(paths), np.bool_)
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=scratch) as file:
            for row, pixels in enumerate(_pixels(paths, image_size, report)):
                if pixels is not None:
                    file.write(pixels.tobytes())
                    kept[row] = True
            file.flush()
            return _mapped(file, (int(kept.sum()), image_size, image_size, 3)), kept
    except OSError as error:
        raise DataError(
            f"{len(paths):,} pictures of {image_size} x {image_size} pixels need "
            f"{3 * image_size**2 * len(paths) / 1e9:.1f} GB in {scratch}, and they could not be written: "
            f"{error.strerror}. Make room, or choose another disk with --run-dir (TMPDIR for an "
            "evaluation)."
        ) from error


def _mapped(file: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.memmap(file, np.uint8, "r", shape=shape) if shape[0] else np.empty(shape, np.uint8)


def _pixels(paths: list[Path], image_size: int, report: Report) -> Iterator[NDArray[np.uint8] | None]:
    """Of each file in turn, decoded by a thread for each core; ``None`` for what is no picture."""

    def decoded(path: Path) -> NDArray[np.uint8] | ServiceError | OSError:
        try:
            return imaging.decode(_content(path), size=(image_size, image_size), fit="squash").pixels
        except (ServiceError, OSError) as error:
            return error

    with decoding_progress(len(paths)) as advance, ThreadPoolExecutor(available_cores()) as pool:
        for first in range(0, len(paths), IN_FLIGHT):
            some = paths[first : first + IN_FLIGHT]
            for path, result in zip(some, pool.map(decoded, some), strict=True):
                advance()
                if isinstance(result, Exception):
                    report(f"skipped {shown(path)}: {_reason(result)}")
                    yield None
                else:
                    yield result


def _content(path: Path) -> bytes:
    if not path.is_file():  # opening a pipe would wait for somebody to write
        raise PictureError("It is not a regular file.")
    return path.read_bytes()


def _reason(error: ServiceError | OSError) -> str:
    return str(error) if isinstance(error, ServiceError) else f"It cannot be read: {error.strerror}."
