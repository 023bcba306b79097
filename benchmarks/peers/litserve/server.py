"""LitServe, batched: decoding in `decode_request`, one call of the network for the batch."""

import os

import litserve as ls
import network
import numpy as np
from fastapi import UploadFile
from numpy.typing import NDArray
from PIL import Image


class Classifier(ls.LitAPI):
    def setup(self, device: str) -> None:  # what LitServe passes
        self.model = network.load(threads=int(os.environ["PEER_THREADS"]))

    def decode_request(self, request: UploadFile) -> NDArray[np.uint8]:
        return network.pixels(Image.open(request.file))

    def batch(self, inputs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        return np.stack(inputs)

    def predict(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.model(x if x.ndim == 4 else x[None])

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return list(output)

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, object]:
        return network.answer(output.reshape(-1))


if __name__ == "__main__":
    api = Classifier(
        max_batch_size=int(os.environ["PEER_BATCH"]), batch_timeout=float(os.environ["PEER_TIMEOUT_S"])
    )
    server = ls.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=int(os.environ["PEER_WORKERS"]),
        fast_queue=os.environ["PEER_FAST_QUEUE"] == "1",
    )
    server.run(
        port=int(os.environ["PEER_PORT"]), host="127.0.0.1", log_level="warning", generate_client_file=False
    )
