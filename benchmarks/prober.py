"""Asks the probes and the metrics of a service while something else keeps it busy."""

import http.client
import threading
import time
from collections.abc import Callable
from typing import Final

from load import HOST

PROBES: Final = ("/livez", "/readyz", "/metrics")
PROBE_EVERY_S: Final = 0.2
FAILED_S: Final = 1.0


class Prober(threading.Thread):
    """Asks the probes in turn until it is stopped; `seconds` is what each answer with a 200 took.

    One that failed counts as `FAILED_S`. `see` is given the path and the body of each answer with a 200.
    """

    def __init__(self, port: int, see: Callable[[str, bytes], object] = lambda _path, _body: None) -> None:
        super().__init__(daemon=True)
        self.seconds: list[float] = []
        self._see = see
        self._port = port
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(PROBE_EVERY_S):
            for path in PROBES:
                self.seconds.append(self._ask(path))

    def stop(self) -> list[float]:
        """What was measured, ascending."""
        self._stopped.set()
        self.join()
        return sorted(self.seconds)

    def _ask(self, path: str) -> float:
        began = time.perf_counter()
        connection = http.client.HTTPConnection(HOST, self._port, timeout=FAILED_S)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            body, took_s = reply.read(), time.perf_counter() - began
        except (OSError, http.client.HTTPException):
            return FAILED_S
        finally:
            connection.close()
        if reply.status != http.HTTPStatus.OK:
            return FAILED_S
        self._see(path, body)
        return took_s
