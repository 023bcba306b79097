"""What workers do in tests of the supervisor; imports little, since each worker imports it anew."""

import os
import signal
import sys
import time
from multiprocessing.synchronize import Event


def answer(_place: int, _settings: object, _listener: object, ready: Event, _patient: bool) -> None:
    """Is ready at once, and ends when it is told to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ready.set()
    time.sleep(100)


def die_at_start(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hear_nothing(_place: int, _settings: object, _listener: object, ready: Event, _patient: bool) -> None:
    """Is ready at once, and goes on when it is told to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    time.sleep(100)
