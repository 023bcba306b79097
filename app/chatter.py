"""Keeps out of the log what TensorFlow says of itself while it is imported, which no setting prevents."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_STDERR: Final = 2
_CHATTER: Final = re.compile(
    rb"WARNING: All log messages before absl::|[IWE]\d{4} \d\d:\d\d:|To enable the following instructions"
)


@contextmanager
def held_back() -> Iterator[None]:
    """Lets through to standard error what is none, and that only at the end, whoever wrote it."""
    if not hasattr(os, "memfd_create"):  # Linux has it
        yield
        return
    stderr = os.dup(_STDERR)
    with os.fdopen(os.memfd_create("stderr"), "rb") as written:
        os.dup2(written.fileno(), _STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, _STDERR)
            os.close(stderr)
            written.seek(0)
            os.write(_STDERR, b"".join(line for line in written if not _CHATTER.match(line)))
