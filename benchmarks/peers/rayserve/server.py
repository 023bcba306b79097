"""Ray Serve: FastAPI in front of a replica, batched with `serve.batch`."""

import os

import network
import numpy as np
import ray
from fastapi import FastAPI, Request, UploadFile
from numpy.typing import NDArray
from ray import serve

app = FastAPI()


@serve.deployment(
    num_replicas=int(os.environ["PEER_WORKERS"]),
    max_ongoing_requests=256,
    ray_actor_options={"num_cpus": 0.5},
)
@serve.ingress(app)
class Classifier:
    def __init__(self) -> None:
        self.model = network.load(threads=int(os.environ["PEER_THREADS"]))

    @serve.batch(
        max_batch_size=int(os.environ["PEER_BATCH"]), batch_wait_timeout_s=float(os.environ["PEER_TIMEOUT_S"])
    )
    async def classify(self, images: list[NDArray[np.uint8]]) -> list[dict[str, object]]:
        return [network.answer(row) for row in self.model(np.stack(images))]

    @app.post("/predict")
    async def predict(self, file: UploadFile) -> dict[str, object]:
        return await self.classify(network.decode(await file.read()))

    @app.post("/predict/raw")
    async def predict_raw(self, request: Request) -> dict[str, object]:
        return await self.classify(network.decode(await request.body()))


if __name__ == "__main__":
    # Without an address of its own, Ray would join a cluster that already runs on the machine.
    ray.init(address="local", include_dashboard=False, logging_level="error", log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    serve.run(Classifier.bind(), blocking=True)
