"""A file of figures that is mapped into memory, for which the system has set room aside.

Where there is no room, writing to a mapped file is no error: SIGBUS ends the process, in the middle of
whatever it is doing. So room is reserved whenever such a file is made or grows, and a figure for which there
is none is left out until there is.
"""

import logging
import os
from pathlib import Path
from typing import Final

from prometheus_client.mmap_dict import MmapedDict

FIRST_BYTES: Final = 1 << 16  # as the library has it
_HEAD_BYTES: Final = 8  # of which the first four say how much of the file is in use
_ENTRY_BYTES: Final = 28  # at most, beside the name
_LOG: Final = logging.getLogger("app.workers")


def reserve(path: Path) -> None:
    """Makes the file, with room for a few hundred figures.

    Raises:
        OSError: there is no room.
    """
    with path.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, FIRST_BYTES)


def clear(path: Path) -> None:
    """Forgets the figures of a process that has ended, and keeps the room for those of the next one."""
    with path.open("r+b") as file:
        file.write(bytes(_HEAD_BYTES))


class FiguresFile(MmapedDict):
    """What the library keeps figures in, but for where the room comes from."""

    _is_told = False

    def read_value(self, key: str) -> tuple[float, float]:
        """See `MmapedDict`; zeros where there is no room for a new one."""
        if not self._has_room(key):
            return 0.0, 0.0
        found: tuple[float, float] = super().read_value(key)  # type: ignore[no-untyped-call]
        return found

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """See `MmapedDict`; where there is no room for a new one, nothing. Whoever counts knows the sum."""
        if self._has_room(key):
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def _has_room(self, key: str) -> bool:
        return key in self._positions or self._reserve(self._used + len(key.encode()) + _ENTRY_BYTES)

    def _reserve(self, used_bytes: int) -> bool:
        reserved_bytes = self._capacity
        while reserved_bytes < used_bytes:
            reserved_bytes *= 2
        try:
            if reserved_bytes > self._capacity:
                os.posix_fallocate(self._f.fileno(), 0, reserved_bytes)
        except OSError as error:
            self._tell(error)
            return False
        return True

    def _tell(self, error: OSError) -> None:
        if not self._is_told:
            _LOG.warning(
                "There is no room for more figures in %s: %s. /metrics lacks what is new until there is.",
                self._fname,
                error.strerror,
            )
        self._is_told = True
