"""What an operator decides about a model: which versions are in memory, which one answers, what labels mean.

The settings say it for every model when the service starts; the file `serving.json` in a model's folder, or
the calls of the API, which write that file, say it for one model at any time.
"""

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from app.errors import DeploymentError

FILE_NAME: Final = "serving.json"
LABEL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

_LONGEST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """Which of the published versions are candidates: the `newest` so many, or those with these `numbers`."""

    newest: int | None = None
    numbers: frozenset[int] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `latest`, `latest:2`, `all` or `1,3`, which is what the setting lets through."""
        if text == "all":
            return cls()
        kind, _, count = text.partition(":")
        if kind == "latest":
            return cls(newest=int(count or 1))
        return cls(numbers=frozenset(map(int, text.split(","))))

    def candidates(self, published: Iterable[int]) -> list[int]:
        """Versions that may answer, the first choice first; if one fails, the next is tried."""
        return sorted(published if self.numbers is None else self.numbers, reverse=True)

    def kept(self, published: Iterable[int]) -> list[int]:
        """Versions that are kept in memory besides the one that answers."""
        if self.newest == 1:
            return []
        return self.candidates(published)[: self.newest]


class Deployment(BaseModel):
    """Decisions about one model; where there is none, the policy of the settings holds.

    `live` answers what names no version. `labels` names versions. `loaded` are kept in memory besides those
    of the policy, and `unloaded` are not, whatever it says. Without `serve`, no version is in memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    live: PositiveInt | None = None
    labels: dict[Annotated[str, Field(pattern=LABEL_PATTERN)], PositiveInt] = {}
    loaded: frozenset[PositiveInt] = frozenset()
    unloaded: frozenset[PositiveInt] = frozenset()
    serve: bool = True

    def changed(self, **decisions: object) -> Self:
        """The same with these decisions instead."""
        return self.model_validate(dict(self) | decisions)


def read(path: Path) -> Deployment:
    """The decisions in the file at `path`; none if there is no file.

    Raises:
        DeploymentError: the file cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_LONGEST_BYTES + 1)
    except FileNotFoundError:
        return Deployment()
    except OSError as error:
        raise DeploymentError(f"Cannot read {path}: {error.strerror}.") from error
    if len(data) > _LONGEST_BYTES:
        raise DeploymentError(f"{path} has more than {_LONGEST_BYTES:,} bytes; it is not what it should be.")
    try:
        return Deployment.model_validate_json(data)
    except ValidationError as error:
        raise DeploymentError(f"{path} cannot be used: {_complaint(error)}") from error


def write(path: Path, deployment: Deployment) -> None:
    """Replaces the file in one step, so that nobody reads half of it.

    Raises:
        DeploymentError: the file system refuses, for instance because it is mounted read-only.
    """
    staging = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        try:
            staging.write_text(deployment.model_dump_json(indent=2, exclude_defaults=True) + "\n", "utf-8")
            staging.replace(path)
        finally:
            with suppress(OSError):
                staging.unlink(missing_ok=True)
    except OSError as error:
        raise DeploymentError(f"Cannot write {path}: {error.strerror}.") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """For one process at a time with a model's folder, where the file system can do that."""
    # The file itself is replaced, and one beside it could not be made where the folder is mounted read-only.
    handle = None
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _complaint(error: ValidationError) -> str:
    wrong = error.errors(include_url=False)[0]
    where = ".".join(map(str, wrong["loc"])) or "the document"
    return f'{where}: {wrong["msg"]}. It should look like {{"live": 2, "labels": {{"stable": 2}}}}.'
