"""CIFAR-10 (Krizhevsky 2009) in its python form: found, downloaded, verified and read without trusting it.

The archive is a tar of pickles, and a pickle is a program. `_CifarUnpickler` lets it build byte strings,
lists, dictionaries and NumPy arrays, and nothing else.
"""

import dataclasses
import hashlib
import io
import lzma
import os
import pickle
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError
from training.progress import byte_progress

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FOLDER = "cifar-10-batches-py"
TRAIN_BATCHES = tuple(f"data_batch_{n}" for n in range(1, 6))
TEST_BATCH = "test_batch"
META = "batches.meta"
BATCH_ROWS = 10_000
SIDE = 32
CHUNK_BYTES = 1 << 20

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Pictures uint8 ``[N, H, W, 3]`` in 0..255 with labels int64 ``[N]`` indexing ``class_names``.

    ``skipped`` counts files that were no pictures; ``test_set`` says what the pictures to test on are.
    """

    class_names: tuple[str, ...]
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    name: str = "CIFAR-10"
    test_set: str = "test"
    skipped: int = 0

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.train_images.shape[1])

    def fingerprint(self) -> str:
        """For the lineage of what is trained and measured on these pictures."""
        return fingerprint([self.train_images, self.train_labels, self.test_images, self.test_labels])

    def judged_by(self, images: Images, labels: Labels, test_set: str) -> "Dataset":
        """The same with these in place of the test pictures, for figures that choices may be made by."""
        return dataclasses.replace(self, test_images=images, test_labels=labels, test_set=test_set)

    def limited(self, pictures: int) -> "Dataset":
        """The first pictures of each set, at most this many, to try things out."""
        return dataclasses.replace(
            self,
            train_images=self.train_images[:pictures],
            train_labels=self.train_labels[:pictures],
            test_images=self.test_images[:pictures],
            test_labels=self.test_labels[:pictures],
        )


def fingerprint(arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256 over the values of all arrays, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def is_cifar10(source: Path) -> bool:
    """Whether this must be meant as CIFAR-10: an archive, or a folder with any of its files."""
    folders = (source, source / FOLDER)
    return not source.is_dir() or any((folder / name).is_file() for folder in folders for name in _wanted())


def load_cifar10(source: Path | None = None) -> Dataset:
    """Reads CIFAR-10 from an archive or extracted folder, else the Keras cache, else the official download.

    Raises:
        DataError: nothing usable was found; the message names the file and the remedy.
    """
    source = source or _cached() or download()
    if not source.exists():
        raise DataError(
            f"--data {source} does not exist. Give the CIFAR-10 archive (.tar.gz or .tar.xz), its folder, or "
            "a folder of your own with one sub-folder of pictures for each class."
        )
    files = _read_folder(source) if source.is_dir() else _read_archive(source)
    return _assemble(files, source)


def _keras_home() -> Path:
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets"


def _cached() -> Path | None:
    home = _keras_home()
    candidates = (
        home / f"{FOLDER}-target" / FOLDER,
        home / FOLDER,
        home / f"{FOLDER}.tar.gz",
        home / URL.rsplit("/", 1)[-1],
    )
    return next((path for path in candidates if path.exists()), None)


def download(url: str = URL, sha256: str = SHA256, folder: Path | None = None) -> Path:
    """Fetches the official archive into the Keras cache, verifies its checksum and returns its path.

    The file appears under its name only when it is complete and verified.

    Raises:
        DataError: no network, a broken transfer, or a checksum that differs.
    """
    folder = folder or _keras_home()
    target = folder / url.rsplit("/", 1)[-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".download-", delete=False) as partial:
            path = Path(partial.name)
            try:
                digest = _fetch(url, partial)
                if digest != sha256:
                    raise DataError(
                        f"{url} arrived with SHA-256 {digest}, not {sha256}: the transfer was cut short, or "
                        "the file was changed. Try again, or fetch it yourself and give it with --data PATH."
                    )
                path.replace(target)
            finally:
                path.unlink(missing_ok=True)
    except (urllib.error.URLError, OSError) as error:
        raise DataError(
            f"could not download {url} to {folder}: {getattr(error, 'reason', error)}. "
            "Check the network and the disk, or give the archive with --data PATH."
        ) from error
    return target


def _fetch(url: str, target: Any) -> str:
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - an address of our own
        total = int(response.headers.get("Content-Length") or 0) or None
        with byte_progress("downloading CIFAR-10", total) as advance:
            while chunk := response.read(CHUNK_BYTES):
                target.write(chunk)
                digest.update(chunk)
                advance(len(chunk))
    return digest.hexdigest()


def _wanted() -> tuple[str, ...]:
    return (*TRAIN_BATCHES, TEST_BATCH, META)


def _read_folder(folder: Path) -> dict[str, bytes]:
    inner = folder / FOLDER
    folder = inner if inner.is_dir() else folder
    missing = [name for name in _wanted() if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {', '.join(missing)}. Give the folder {FOLDER} as it comes out of the archive."
        )
    return {name: (folder / name).read_bytes() for name in _wanted()}


def _read_archive(path: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(path, "r|*") as archive:
            files = dict(_members(archive))
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"{path} is not a whole .tar.gz or .tar.xz archive ({error}). Fetch it again: {URL}"
        ) from error
    missing = [name for name in _wanted() if name not in files]
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing)}. It must be the python version of CIFAR-10: {URL}"
        )
    return files


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        name = member.name.rsplit("/", 1)[-1]
        if member.isfile() and name in _wanted():
            content = archive.extractfile(member)
            if content is not None:
                yield name, content.read()


class _CifarUnpickler(pickle.Unpickler):
    """Allows the globals that NumPy arrays and byte strings need; any other stops the reading."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _empty_array
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 file needs")


def _empty_array(kind: type, shape: tuple[int, ...], dtype: bytes) -> NDArray[Any]:
    """What NumPy's own `_reconstruct` does for a plain array; subclasses are refused."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"it asks for an array of {kind}")
    return np.ndarray.__new__(np.ndarray, shape, dtype.decode("ascii"))


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """How a protocol-2 pickle of Python 3 spells bytes."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


def unpickle(content: bytes, origin: str) -> dict[bytes, Any]:
    """Reads one CIFAR-10 file.

    Raises:
        DataError: it is damaged, or asks for anything beyond plain data and NumPy arrays.
    """
    try:
        value = _CifarUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(
            f"{origin} cannot be read as a CIFAR-10 batch: {error}. Fetch the archive again."
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{origin} holds a {type(value).__name__}, not the dictionary of a CIFAR-10 batch.")
    return value


def _assemble(files: dict[str, bytes], source: Path) -> Dataset:
    names = _class_names(unpickle(files[META], f"{source}: {META}"), source)
    batches = {
        name: _batch(unpickle(files[name], f"{source}: {name}"), f"{source}: {name}", len(names))
        for name in (*TRAIN_BATCHES, TEST_BATCH)
    }
    images, labels = zip(*(batches[name] for name in TRAIN_BATCHES), strict=True)
    test_images, test_labels = batches[TEST_BATCH]
    return Dataset(names, np.concatenate(images), np.concatenate(labels), test_images, test_labels)


def _class_names(meta: dict[bytes, Any], source: Path) -> tuple[str, ...]:
    names = meta.get(b"label_names", meta.get("label_names"))  # type: ignore[call-overload]
    if not isinstance(names, list) or not names:
        raise DataError(
            f"{source}: {META} has no label_names. It must be the python version of CIFAR-10: {URL}"
        )
    return tuple(name.decode("ascii") if isinstance(name, bytes) else str(name) for name in names)


def _batch(content: dict[bytes, Any], origin: str, classes: int) -> tuple[Images, Labels]:
    pixels, labels = content.get(b"data"), content.get(b"labels")
    columns = 3 * SIDE * SIDE
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape != (BATCH_ROWS, columns)
    ):
        found = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(
            f"{origin}: data is {found}; it must be uint8 ({BATCH_ROWS}, {columns}). Fetch the archive again."
        )
    if not isinstance(labels, list) or len(labels) != BATCH_ROWS:
        found = f"{len(labels)} labels" if isinstance(labels, list) else type(labels).__name__
        raise DataError(f"{origin}: {found}; it must list {BATCH_ROWS} labels. Fetch the archive again.")
    wrong = [label for label in labels if not isinstance(label, int) or not 0 <= label < classes]
    if wrong:
        raise DataError(
            f"{origin}: label {wrong[0]!r} is not one of 0 to {classes - 1}. Fetch the archive again."
        )
    images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.asarray(labels, np.int64)
