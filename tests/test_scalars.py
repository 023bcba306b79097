from pathlib import Path

import pytest
import tensorflow as tf

from training.progress import Step
from training.scalars import scalars

pytestmark = pytest.mark.timeout(240)  # it may be the first to load TensorFlow


def steps() -> list[Step]:
    return [Step(0, number, 3, 1.0 / number, 0.25 * number, 100.0) for number in (1, 2, 3)]


def test_every_figure_of_every_step_can_be_read_back(tmp_path: Path) -> None:
    with scalars(tmp_path) as write:
        for step in steps():
            write(step, 0.1)
    (file,) = tmp_path.iterdir()
    found: dict[str, list[tuple[int, float]]] = {}
    for record in tf.data.TFRecordDataset([str(file)]).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    assert set(found) == {"loss", "accuracy", "images_per_second", "learning_rate"}
    assert found["loss"] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert found["accuracy"] == [(1, 0.25), (2, 0.5), (3, 0.75)]


def test_nothing_is_written_without_a_folder() -> None:
    with scalars(None) as write:
        write(steps()[0], 0.1)
