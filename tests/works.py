"""What workers do in tests of the supervisor; imports little, since each worker imports it anew."""

import os
import signal
import sys
import time

from app.supervisor import Signs


def answer(_place: int, _settings: object, _listener: object, signs: Signs, _patient: bool) -> None:
    """Is ready at once, and ends when it is told to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signs.be_ready()
    while True:
        signs.turn()
        time.sleep(0.1)


def die_at_start(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def end_as_told(_place: int, _settings: object, _listener: object, signs: Signs, _patient: bool) -> None:
    """Ends at once, as if it were told to before it is ready; only its successor stays."""
    if signs.turns.value == 0:
        signs.turn()
        os.kill(os.getpid(), signal.SIGTERM)
    answer(_place, _settings, _listener, signs, _patient)


def hear_nothing(_place: int, _settings: object, _listener: object, signs: Signs, _patient: bool) -> None:
    """Is ready at once, and goes on when it is told to end, though its event loop does not turn."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signs.be_ready()
    time.sleep(100)
