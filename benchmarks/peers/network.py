"""What every peer does with a picture, so that they differ in nothing but the server around it.

They read the environment: `PEER_MODEL` is the folder of the published version and `PEER_ENGINE` what runs it,
`tensorflow` (the SavedModel's signature) or one of this project's engines by name, such as `openvino-int8`.
"""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MODEL = Path(os.environ["PEER_MODEL"])
ENGINE = os.environ["PEER_ENGINE"]
_MANIFEST = json.loads((MODEL / "manifest.json").read_text())
CLASSES: list[str] = _MANIFEST["class_names"]
SIZE = (_MANIFEST["input"]["width"], _MANIFEST["input"]["height"])

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def load(threads: int = 0) -> Predict:
    """From uint8 [N, H, W, 3] to probabilities float32 [N, K], on so many cores, 0 for all; warm."""
    predict = _signature(threads) if ENGINE == "tensorflow" else _engine(threads)
    predict(np.zeros((1, *SIZE[::-1], 3), np.uint8))
    return predict


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """As tutorials do it: uint8 [H, W, 3]."""
    return np.asarray(picture.convert("RGB").resize(SIZE), np.uint8)


def decode(data: bytes) -> NDArray[np.uint8]:
    """The pixels of an encoded picture, uint8 [H, W, 3]."""
    return pixels(Image.open(BytesIO(data)))


def answer(probabilities: NDArray[np.float32]) -> dict[str, object]:
    """For one picture, float32 [K]."""
    best = int(probabilities.argmax())
    return {
        "label": CLASSES[best],
        "probability": float(probabilities[best]),
        "probabilities": dict(zip(CLASSES, probabilities.tolist(), strict=True)),
    }


def _signature(threads: int) -> Predict:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    model = tf.saved_model.load(str(MODEL))

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = model.signatures["serving_default"](images=tf.constant(images))[
            "probabilities"
        ].numpy()
        return found

    return predict


def _engine(threads: int) -> Predict:
    from app import engines

    engine = engines.choose(ENGINE, MODEL, threads)
    pool = ThreadPoolExecutor(engine.concurrency)
    return lambda images: engines.predict_all(engine, images, pool).probabilities
