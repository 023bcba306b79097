"""BentoML, adaptive batching on: pictures come as a form, the network sees as many as wait."""

import os

import bentoml
import network
import numpy as np
from PIL.Image import Image


@bentoml.service(
    workers=int(os.environ["PEER_WORKERS"]),
    traffic={"timeout": 60},
    http={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])},
    logging={"access": {"enabled": False}},
)
class Classifier:
    def __init__(self) -> None:
        self.model = network.load(threads=int(os.environ["PEER_THREADS"]))

    @bentoml.api(
        batchable=True,
        max_batch_size=int(os.environ["PEER_BATCH"]),
        max_latency_ms=int(1000 * float(os.environ["PEER_TIMEOUT_S"])),
    )
    def predict(self, file: list[Image]) -> list[dict]:
        images = np.stack([network.pixels(each) for each in file])
        return [network.answer(row) for row in self.model(images)]
