"""Scalars of every step in the form that TensorBoard reads; to write them, it need not be there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from training.progress import Step

FLUSH_MILLISECONDS = 10_000


@contextmanager
def scalars(folder: Path | None) -> Iterator[Callable[[Step, float], None]]:
    """Yields a function that takes a step and its learning rate; it writes nothing without a folder."""
    if folder is None:
        yield lambda *_: None
        return
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    writer = tf.summary.create_file_writer(str(folder), flush_millis=FLUSH_MILLISECONDS)

    def write(step: Step, learning_rate: float) -> None:
        figures = {
            "loss": step.loss,
            "accuracy": step.accuracy,
            "images_per_second": step.images_per_second,
            "learning_rate": learning_rate,
        }
        with writer.as_default():
            for name, value in figures.items():
                tf.summary.write(name, tf.constant(value, tf.float32), step=step.step, metadata=metadata)

    try:
        yield write
    finally:
        writer.close()
