"""From the SavedModel to the file that OpenVINO reads fastest, with the same inputs and outputs."""

from pathlib import Path
from typing import Any

from app.engines import openvino  # before OpenVINO itself, which it keeps from reporting home
from app.engines.tensorflow import SIGNATURE


def convert(folder: Path) -> None:
    """Writes the signature ``scored`` of the SavedModel in ``folder`` as ``openvino/model.xml`` and ``.bin``.

    Weights are kept as float16, which halves the file; OpenVINO computes with them in the precision of the
    engine. Its own reader of SavedModels sees only ``serving_default``, so the function is handed over.
    """
    import openvino as ov
    import tensorflow as tf

    model: Any = tf.saved_model.load(str(folder))
    target = folder / openvino.MODEL
    target.parent.mkdir(exist_ok=True)
    ov.save_model(ov.convert_model(model.signatures[SIGNATURE]), target, compress_to_fp16=True)
