"""A stop that is asked for while a library runs that catches everything."""

import signal
from types import FrameType

_is_asked_for = False


def listen() -> None:
    """From now on SIGTERM does what Ctrl-C does: what is half made goes away, and how to go on is said."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def heed() -> None:
    """To be called after what may have swallowed it, as OpenVINO's converter does.

    Raises:
        KeyboardInterrupt: a stop was asked for.
    """
    if _is_asked_for:
        raise KeyboardInterrupt


def _stop(_number: int, _frame: FrameType | None) -> None:
    global _is_asked_for  # noqa: PLW0603
    _is_asked_for = True
    heed()
