"""Eight-bit integers for weights and activations, and the gate that they must pass to be published.

Post-training quantisation by NNCF: held-out pictures run through the network and tell the range of every
activation. What a few bits may cost is decided on others, never on the test pictures.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines import QUANTIZED, Engine, openvino
from training.errors import TrainingError
from training.evaluation import predict
from training.split import Pictures

DRAWN = 2500  # pictures at most
CALIBRATION_SHARE = 0.2  # of those drawn; the others are the gate's
LARGEST_ACCURACY_DROP = 0.001
SMALLEST_AGREEMENT = 0.99


class QuantizationError(TrainingError):
    """The quantised network is not good enough to be published."""


@dataclass(frozen=True)
class HeldOut:
    """Pictures uint8 ``[N, H, W, 3]`` for calibration, and others with labels ``[N]`` for the gate.

    They come from `training.split.Split.for_choices`. A recipe that holds none out has trained on them, so
    their accuracy is too good; what the gate compares, one precision with the other on the same pictures, is
    fair to both.
    """

    calibration_images: NDArray[np.uint8]
    gate_images: NDArray[np.uint8]
    gate_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """int8 against float32 on the same pictures; shares from 0 to 1."""

    pictures: int
    accuracy_drop: float
    agreement: float


def hold_out(pictures: Pictures, count: int = DRAWN) -> HeldOut:
    """Draws ``count`` pictures, each class by its share, and divides them by the same rule."""
    drawn, _ = pictures.divided(count)
    for_calibration, for_gate = drawn.divided(max(1, round(CALIBRATION_SHARE * len(drawn))))
    return HeldOut(for_calibration.images, for_gate.images, for_gate.labels)


def quantize(folder: Path, images: NDArray[np.uint8], *, float_sums: bool = False) -> None:
    """Writes ``openvino/int8.xml`` and ``.bin`` from ``openvino/model.xml``, calibrated on ``images``.

    With ``float_sums`` the sums at the end of residual blocks stay in float32: a little slower and closer,
    above all on pictures that leave the calibrated ranges.

    Agreement with float32 on 2,000 pictures was 99.65 % for a trained network with the options below, 99.10 %
    with NNCF's fast bias correction, and 98.15 % with the first convolution in int8. With NNCF's average of
    maxima for the ranges, the OOD score was off by up to 5.7 instead of 0.3.
    """
    import nncf
    import openvino as ov
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # It lists what it leaves in float32; its own way to set the level changes the handlers of others too.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = ov.Core().read_model(folder / openvino.MODEL)
    quantized = nncf.quantize(
        model,
        nncf.Dataset([images[row : row + 1] for row in range(len(images))]),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        fast_bias_correction=False,
        ignored_scope=nncf.IgnoredScope(names=_kept_in_float(model, float_sums), validate=False),
        advanced_parameters=AdvancedQuantizationParameters(
            # Processors without VNNI add products in 16 bits, where weights of 8 bits can overflow: the same
            # file would answer differently on them.
            overflow_fix=OverflowFix.ENABLE,
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        ),
    )
    ov.save_model(quantized, folder / QUANTIZED)


def compare(float32: Engine, int8: Engine, held_out: HeldOut) -> Comparison:
    """Both engines on the pictures of the gate."""
    expected, found = (_classes(engine, held_out.gate_images) for engine in (float32, int8))
    right = [float(np.mean(classes == held_out.gate_labels)) for classes in (expected, found)]
    return Comparison(len(expected), right[0] - right[1], float(np.mean(expected == found)))


def check(comparison: Comparison) -> None:
    """Lets pass what is good enough.

    Raises:
        QuantizationError: accuracy falls too far, or too many answers differ.
    """
    if comparison.accuracy_drop > LARGEST_ACCURACY_DROP + 1e-9:
        raise QuantizationError(
            f"Accuracy on {comparison.pictures:,} held-out pictures falls by "
            f"{100 * comparison.accuracy_drop:.2f} points; {100 * LARGEST_ACCURACY_DROP:.2f} is allowed."
        )
    if comparison.agreement < SMALLEST_AGREEMENT:
        raise QuantizationError(
            f"{comparison.agreement:.2%} of {comparison.pictures:,} held-out pictures get the same class as "
            f"in float32; {SMALLEST_AGREEMENT:.0%} is asked for."
        )


def _kept_in_float(model: Any, float_sums: bool) -> list[str]:
    """Names of all up to the first convolution and after the last, and of the residual sums if asked for."""
    operations = [node for node in model.get_ordered_ops() if node.get_type_name() != "Constant"]
    kinds = [node.get_type_name() for node in operations]
    first, last = kinds.index("Convolution"), len(kinds) - 1 - kinds[::-1].index("Convolution")
    kept = operations[: first + 1] + operations[last + 1 :]
    kept += [node for node in operations if float_sums and _is_residual_sum(node)]
    return [node.get_friendly_name() for node in kept]


def _is_residual_sum(node: Any) -> bool:
    """A bias is added by the same operation, but comes from a constant, perhaps by way of a conversion."""
    added = [source.get_source_output().get_node().get_type_name() for source in node.inputs()]
    return node.get_type_name() == "Add" and not {"Constant", "Convert"} & set(added)


def _classes(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    classes: NDArray[np.int64] = predict(engine, images).probabilities.argmax(axis=1)
    return classes
