"""Keeps out of the log what TensorFlow says of itself while it is imported, which no setting prevents."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_STDERR: Final = 2
_CHATTER: Final = re.compile(
    rb"WARNING: All log messages before absl::|[IW]\d{4} \d\d:\d\d:|To enable the following instructions"
)
_LONGEST_WAIT_S: Final = 1.0


@contextmanager
def held_back() -> Iterator[None]:
    """Lets through to standard error what is none, line by line, whoever wrote it."""
    try:
        stderr = os.dup(_STDERR)
    except OSError:  # it is closed
        yield
        return
    reading, writing = os.pipe()
    reader = threading.Thread(target=_pass_on, args=(reading, stderr), name="chatter", daemon=True)
    reader.start()
    os.dup2(writing, _STDERR)
    os.close(writing)
    try:
        yield
    finally:
        os.dup2(stderr, _STDERR)
        reader.join(_LONGEST_WAIT_S)  # a process that was started meanwhile may hold the other end


def _pass_on(reading: int, stderr: int) -> None:
    with os.fdopen(reading, "rb") as lines, os.fdopen(stderr, "wb", buffering=0) as out:
        for line in lines:
            if not _CHATTER.match(line):
                out.write(line)
