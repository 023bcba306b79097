"""Large pieces of memory go back to the system at once, as the decoding of a large picture needs them."""

import ctypes
import sys
from contextlib import suppress
from typing import Final

_M_MMAP_THRESHOLD: Final = -3  # of glibc's mallopt
_LARGE_BYTES: Final = 8 * 1024 * 1024


def give_back_large_pieces() -> None:
    """Keeps glibc from raising its threshold for them by itself, after which they would stay."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
