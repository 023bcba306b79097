"""A folder of files that several processes map into memory, which is gone with the last of them.

Whoever makes it removes it, unless that process is killed; then the next one to make a folder does. What
tells whether a folder is in use is a lock on a file in it, not a process number: numbers are given again, and
containers that share a file system do not see each other's. The lock ends with whoever holds it, however that
ends. The workers hold it too, since they outlive a supervisor that is killed by as long as they drain.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "classifier-"
_MARK: Final = "in-use"
_LOG: Final = logging.getLogger("app.workers")


@contextmanager
def made_in(parent: Path) -> Iterator[Path]:
    """One that nobody else has, for as long as this lasts; those that nobody has any more are removed first.

    Raises:
        OSError: the system gives none.
    """
    remove_abandoned(parent)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as name:
        folder, unlocked = Path(name), Path(name, f"{_MARK}.new")
        with unlocked.open("xb") as mark:
            fcntl.flock(mark, fcntl.LOCK_SH)
            unlocked.rename(folder / _MARK)  # so nobody finds it without its lock
            yield folder


def hold(folder: Path) -> None:
    """Keeps what another process has made from being removed for as long as this process lives.

    Raises:
        OSError: it is gone.
    """
    fcntl.flock(os.open(folder / _MARK, os.O_RDONLY), fcntl.LOCK_SH)


def remove_abandoned(parent: Path) -> None:
    """Removes what this user's processes left behind, of which none lives."""
    for folder in parent.glob(f"{_PREFIX}*"):
        # It is in use, it has no mark (yet, or its maker knew of none), or another one has just removed it.
        with suppress(OSError):
            _remove(folder)


def _remove(folder: Path) -> None:
    if folder.lstat().st_uid != os.geteuid():
        return
    with (folder / _MARK).open("rb") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    _LOG.info("Removed %s, which a service that was killed had left behind.", folder)
