"""The reference engine: runs the SavedModel as it was published."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its errors arrive as exceptions all the same

from app.chatter import held_back
from app.engines import Prediction
from app.errors import EngineError

with held_back():
    import tensorflow as tf

SIGNATURE: Final = "scored"
# TensorFlow keeps plans and memory for every shape it has ever seen, so it only ever sees these.
BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)


class TensorFlowEngine:
    name = "tensorflow"
    precision = "float32"
    batch_sizes = BATCH_SIZES
    concurrency = 1  # it shares out each batch among its threads by itself
    ahead = 0

    def __init__(self, folder: Path, threads: int = 0, _streams: int = 0) -> None:
        """Loads `folder`, on at most `threads` cores (0 for all).

        Raises:
            EngineError: it holds no SavedModel with the signature `scored` that TensorFlow can load.
        """
        _use_threads(threads)
        try:
            # The functions live only as long as the object that came with them.
            self._model: Any = tf.saved_model.load(str(folder))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise EngineError(f"TensorFlow cannot load the SavedModel in {folder}.") from error
        self._run = _scored(self._model, folder)

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """See `Engine.predict`."""
        if self._run is None:
            raise EngineError("The TensorFlow engine was closed.")
        parts = [self._predict_batch(part) for part in _parts(images)]
        return Prediction(
            probabilities=np.concatenate([part.probabilities for part in parts]),
            ood_score=np.concatenate([part.ood_score for part in parts]),
        )

    def close(self) -> None:
        """See `Engine.close`."""
        self._run = self._model = None

    def _predict_batch(self, images: NDArray[np.uint8]) -> Prediction:
        count = len(images)
        size = next(size for size in BATCH_SIZES if size >= count)
        if size > count:
            images = np.concatenate([images, np.repeat(images[-1:], size - count, axis=0)])
        try:
            outputs = self._run(images=tf.constant(images))
        except (ValueError, tf.errors.OpError) as error:
            raise EngineError(
                f"TensorFlow failed on {count} pictures of shape {list(images.shape[1:])}."
            ) from error
        return Prediction(
            probabilities=outputs["probabilities"].numpy()[:count],
            ood_score=outputs["ood_score"].numpy()[:count],
        )


def _parts(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(images), BATCH_SIZES[-1]):
        yield images[start : start + BATCH_SIZES[-1]]


def _scored(model: Any, folder: Path) -> Any:
    run = model.signatures.get(SIGNATURE)
    outputs = set(run.structured_outputs) if run is not None else set()
    if outputs != {"probabilities", "ood_score"}:
        raise EngineError(
            f"The SavedModel in {folder} has no signature {SIGNATURE!r} with the outputs probabilities and "
            f"ood_score; it has: {', '.join(model.signatures) or 'no signature'}."
        )
    return run


def _use_threads(threads: int) -> None:
    # Once TensorFlow has run anything these are fixed, as in a training that evaluates what it exported.
    with suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
