"""The service as `python -m app` runs it, whose engine never comes back from pictures of the level `HANGS`.

Settings come from the environment; the argument is how many seconds it takes to load a version.
"""

import logging.config
import socket
import sys
import time

import numpy as np
from fakes import FakeEngine
from numpy.typing import NDArray

from app import logs, start
from app.engines import Prediction
from app.settings import Settings

HANGS = 77


class HangingEngine(FakeEngine):
    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        if (images == HANGS).all():
            time.sleep(600)
        return super().predict(images)


def main(loads_s: str = "0") -> None:
    def choose(*_: object) -> HangingEngine:
        time.sleep(float(loads_s))
        return HangingEngine()

    settings = Settings.load()
    logging.config.dictConfig(logs.configuration(settings.log_format, settings.log_level))
    with socket.create_server((settings.host, settings.port)) as listener:
        start.run(settings, listener, choose=choose)


if __name__ == "__main__":
    main(*sys.argv[1:])
