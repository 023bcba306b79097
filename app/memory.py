"""Memory goes back to the system: large pieces at once, the rest when many bodies have come and gone."""

import ctypes
import sys
from contextlib import suppress
from typing import Final

_M_MMAP_THRESHOLD: Final = -3  # of glibc's mallopt
_LARGE_BYTES: Final = 8 * 1024 * 1024
_MUCH_BYTES: Final = 32 * 1024 * 1024
_LITTLE_BYTES: Final = 1024 * 1024


def give_back_large_pieces() -> None:
    """Keeps glibc from raising its threshold for them by itself, after which they would stay."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_back_the_rest() -> None:
    """What is free between pieces that are not, which glibc keeps. It takes some milliseconds."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


class Tide:
    """Tells when it is worth the time to give back the rest: much was there, and little is."""

    def __init__(self) -> None:
        self._was_high = False

    def has_ebbed(self, received_bytes: int) -> bool:
        """True once after each flood; to be asked often, with what the bodies here have together."""
        if received_bytes >= _MUCH_BYTES:
            self._was_high = True
        is_over = self._was_high and received_bytes < _LITTLE_BYTES
        if is_over:
            self._was_high = False
        return is_over
