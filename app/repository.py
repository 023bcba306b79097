"""Model versions on disk: `root/<name>/<number>/`, published whole or not at all."""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app import manifest
from app.errors import DamagedVersionError, ModelNotFoundError, PublishError, VersionNotFoundError
from app.manifest import Card, File, Manifest

_NAME = re.compile(manifest.NAME_PATTERN)
_STAGING_PREFIX = ".staging-"
_LOCKED_WITHIN_S = 60.0  # whoever makes a folder to fill has locked it by then


Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Version:
    """One published version: its folder, every file of which matched the manifest when it was opened."""

    path: Path
    manifest: Manifest

    def __str__(self) -> str:
        return f"{self.manifest.name} version {self.manifest.version}"


class Staging:
    """A folder being filled beside the versions; becomes one by `publish`, vanishes otherwise."""

    def __init__(self, repository: "Repository", name: str, path: Path) -> None:
        self._repository = repository
        self._name = name
        self.path = path

    def publish(self, card: Card) -> Version:
        """Writes the manifest last and moves the folder to the next free number in one step.

        Raises:
            ManifestError: card and files do not make a valid manifest.
            PublishError: the file system refused.
        """
        files = {name: _fingerprint(self.path / name) for name in sorted(_files(self.path))}
        for name in files:
            _sync(self.path / name)
        try:
            return self._move_to_next_number(card, files)
        except OSError as error:
            raise PublishError(
                f"Cannot publish {self._name} at {self.path.parent}: {error.strerror}."
            ) from error

    def _move_to_next_number(self, card: Card, files: dict[str, File]) -> Version:
        while True:
            number = self._repository.next_version(self._name)
            target = self.path.parent / str(number)
            created = datetime.now(UTC).replace(microsecond=0)
            stated = manifest.complete(card, name=self._name, version=number, created=created, files=files)
            manifest.write(stated, self.path / manifest.FILE_NAME)
            _sync(self.path / manifest.FILE_NAME)
            for folder in (self.path, *(child for child in self.path.rglob("*") if child.is_dir())):
                _sync(folder)
            try:
                self.path.rename(target)
            except OSError as error:
                # Another publisher was quicker: a folder with files in it is never replaced.
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    continue
                raise
            _sync(target.parent)
            return Version(target, stated)


class Repository:
    """The versions under `root`. Staging folders and folders without a manifest are not versions."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Models with at least one version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(child.name for child in self.root.iterdir() if self._is_model(child.name))

    def versions(self, name: str) -> list[int]:
        """Numbers of the published versions of a model, ascending; none for a model that is not there."""
        folder = self.root / name
        return [
            number for number in self._numbers(name) if (folder / str(number) / manifest.FILE_NAME).is_file()
        ]

    def next_version(self, name: str) -> int:
        """One more than the largest number in use, be it a version or not."""
        return max(self._numbers(name), default=0) + 1

    def folder(self, name: str, number: int | None = None) -> Path:
        """Where a model is, or this version of it, whether it is there or not."""
        return self.root / name if number is None else self.root / name / str(number)

    def open(self, name: str, number: int | None = None) -> Version:
        """A version, the newest unless told otherwise, with every file checked against its sha256.

        Raises:
            ModelNotFoundError: no version of this model is published here.
            VersionNotFoundError: not this number.
            ManifestError: its manifest cannot be used.
            DamagedVersionError: a file is missing, added or changed.
        """
        numbers = self.versions(name)
        if not numbers:
            raise ModelNotFoundError(self._nothing_found(name))
        if number is not None and number not in numbers:
            known = ", ".join(map(str, numbers))
            raise VersionNotFoundError(f"{name} has no version {number} in {self.root}; there is: {known}.")
        path = self.root / name / str(number or numbers[-1])
        version = Version(path, manifest.read(path / manifest.FILE_NAME))
        _verify(version)
        return version

    def stated(self, name: str, number: int) -> Manifest:
        """What a version says of itself; its files are not looked at.

        Raises:
            VersionNotFoundError: it is not published here.
            ManifestError: its manifest cannot be used.
        """
        if not _NAME.fullmatch(name) or number not in self.versions(name):
            raise VersionNotFoundError(f"{name} version {number} is not in {self.root}.")
        return manifest.read(self.root / name / str(number) / manifest.FILE_NAME)

    @contextmanager
    def staging(self, name: str) -> Iterator[Staging]:
        """A folder to fill and to `publish`; whatever ends the block before that, nothing of it stays behind.

        What others left who were killed meanwhile goes away with it.

        Raises:
            PublishError: the name is not one for a model, or the folder cannot be made.
        """
        if not _NAME.match(name):
            raise PublishError(
                f"A model cannot be called {name!r}: use a-z, 0-9, '.', '_' and '-', at most 100."
            )
        folder = self.root / name
        staging = folder / f"{_STAGING_PREFIX}{secrets.token_hex(8)}"
        try:
            staging.mkdir(parents=True)
        except OSError as error:
            raise PublishError(f"Cannot make a folder under {self.root}: {error.strerror}.") from error
        try:
            with _held(staging):
                _remove_abandoned(folder)
                yield Staging(self, name, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if not any(folder.iterdir()):
                folder.rmdir()

    def _is_model(self, name: str) -> bool:
        # Folders that belong to somebody else, such as lost+found, may not be readable.
        with suppress(OSError):
            return _NAME.fullmatch(name) is not None and bool(self.versions(name))
        return False

    def _numbers(self, name: str) -> list[int]:
        folder = self.root / name
        if not folder.is_dir():
            return []
        return sorted(
            int(child.name) for child in folder.iterdir() if re.fullmatch(r"[1-9][0-9]*", child.name)
        )

    def _nothing_found(self, name: str) -> str:
        there = ", ".join(self.names()) or "nothing"
        return (
            f"No version of the model {name} in {self.root} (which holds {there}). Point "
            "CLASSIFIER_MODEL_ROOT and CLASSIFIER_MODEL_NAME at a published model, or publish one: python "
            "training/train.py"
        )


def fingerprint(path: Path) -> Fingerprint:
    """Changes with any file at or below `path`: names, sizes, times and inodes; empty if nothing is there."""
    found = []
    for place in sorted([path, *path.rglob("*")]):
        with suppress(FileNotFoundError):
            stat = place.lstat()
            found.append((str(place), stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(found)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Locks a folder until the block or the process ends; gives whether that was possible.

    It is not where another process has locked it, or where the file system has no locks.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_held = True
        except OSError:
            is_held = False
        yield is_held
    finally:
        os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    for staging in folder.glob(f"{_STAGING_PREFIX}*"):
        with suppress(OSError):  # it may be gone by now, or somebody else's
            is_new = time.time() - staging.stat().st_mtime < _LOCKED_WITHIN_S
            with _held(staging) as is_abandoned:
                if is_abandoned and not is_new:
                    shutil.rmtree(staging, ignore_errors=True)


def _verify(version: Version) -> None:
    stated = version.manifest
    if (stated.name, str(stated.version)) != (version.path.parent.name, version.path.name):
        raise DamagedVersionError(
            f"The folder {version.path} holds the manifest of {version}: it was moved or copied by hand. "
            "Put it back where it was published."
        )
    present = set(_files(version.path)) - {manifest.FILE_NAME}
    if missing := sorted(stated.files.keys() - present):
        raise _damaged(version, f"{missing[0]} is missing")
    if unlisted := sorted(present - stated.files.keys()):
        raise _damaged(version, f"{unlisted[0]} is not in its manifest")
    for name, expected in stated.files.items():
        size = (version.path / name).stat().st_size
        if size != expected.bytes:
            raise _damaged(version, f"{name} has {size} bytes where the manifest says {expected.bytes}")
        if _fingerprint(version.path / name) != expected:
            raise _damaged(version, f"{name} has another sha256 than the manifest says")


def _damaged(version: Version, what: str) -> DamagedVersionError:
    return DamagedVersionError(
        f"{version} in {version.path} is damaged: {what}. Restore it or publish it again."
    )


def _files(folder: Path) -> list[str]:
    """Paths below a folder, relative to it; a link counts as a file, so none leads outside unnoticed."""
    found = (child for child in folder.rglob("*") if child.is_symlink() or not child.is_dir())
    return [child.relative_to(folder).as_posix() for child in found]


def _fingerprint(path: Path) -> File:
    if path.is_symlink() or not path.is_file():
        raise DamagedVersionError(f"{path} is not a regular file; a version holds only those.")
    with path.open("rb") as stream:
        return File(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), bytes=path.stat().st_size)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
