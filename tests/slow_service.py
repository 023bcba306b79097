"""The service with an engine that takes a set time.

Arguments are the models, the port, the seconds and how many pictures may wait.
"""

import sys
import time
from pathlib import Path

import numpy as np
import uvicorn
from fakes import MODEL, FakeEngine
from numpy.typing import NDArray

from app import http_protocol, logs
from app.engines import Prediction
from app.main import create_app
from app.settings import Settings

SECONDS_PER_BATCH = 0.5
PICTURES_PER_BATCH = 4


class SlowEngine(FakeEngine):
    """Sleeps, so that it needs no core and its speed does not depend on what else runs."""

    seconds = SECONDS_PER_BATCH

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        time.sleep(self.seconds)
        return super().predict(images)


def main(
    root: str,
    port: str,
    seconds: str = str(SECONDS_PER_BATCH),
    queue_pictures: str = str(2 * PICTURES_PER_BATCH),
) -> None:
    SlowEngine.seconds = float(seconds)
    settings = Settings(model_root=Path(root), model_name=MODEL, queue_pictures=int(queue_pictures))
    app = create_app(settings, lambda *_: SlowEngine((PICTURES_PER_BATCH,)))
    uvicorn.run(
        app,
        port=int(port),
        log_config=logs.configuration("json", "info"),
        access_log=False,
        http=http_protocol.bounded(settings, app.door, app.state.metrics),
        ws="none",
        lifespan="on",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
