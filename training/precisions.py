"""OpenVINO's files beside the SavedModel: each is published only if it does what the SavedModel does."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from app import golden
from app.engines import QUANTIZED, Engine, choose, openvino
from app.errors import GoldenError, ServiceError
from app.golden import Golden
from training import stop
from training.conversion import convert
from training.errors import TrainingError
from training.quantization import HeldOut, QuantizationError, check, compare, quantize

# Largest difference in a probability on the golden pictures, some of them far from all that is photographed.
# Measured for a trained network: float32 0.0006, from weights kept as float16; bfloat16 0.011, in Keras's
# mixed_bfloat16 for want of a processor that has it; int8 0.04, and 0.1 to 0.4 on noise, which leaves the
# ranges that were calibrated.
GOLDEN_TOLERANCE: Final = {"float32": 0.005, "bfloat16": 0.05, "int8": 0.3}

Report = Callable[[str], None]


def derive(folder: Path, recorded: Golden, held_out: HeldOut, report: Report) -> dict[str, Any]:
    """Adds float32 and, if it passes its gate, int8 to the version in ``folder``; never fails.

    Returns, for the lineage, what was found out about each precision, or why it is not published. ``report``
    hears the reasons too.
    """
    attempts: dict[str, tuple[Path, Callable[[], dict[str, Any]]]] = {
        "float32": (openvino.MODEL, lambda: _float32(folder, recorded)),
        "int8": (QUANTIZED, lambda: _int8(folder, recorded, held_out, report)),
    }
    found: dict[str, Any] = {}
    for precision, (path, attempt) in attempts.items():
        try:
            if not all(each["published"] for each in found.values()):
                raise QuantizationError("it is made from the float32 file, which is not published.")
            found[precision] = {"published": True} | attempt()
        except Exception as error:  # noqa: BLE001 - whatever it is, the SavedModel can be published without
            for file in (path, path.with_suffix(".bin")):
                (folder / file).unlink(missing_ok=True)
            found[precision] = {"published": False, "reason": _reason(error)}
            report(f"openvino {precision} is not published: {_reason(error)}")
        stop.heed()
    return found


def _float32(folder: Path, recorded: Golden) -> dict[str, Any]:
    convert(folder)
    _replay(recorded, choose("openvino-float32", folder))
    return {}


def _int8(folder: Path, recorded: Golden, held_out: HeldOut, report: Report) -> dict[str, Any]:
    """The fastest way to quantise that passes; a slower and closer one is tried before giving up."""
    try:
        return _int8_attempt(folder, recorded, held_out, float_sums=False)
    except (QuantizationError, GoldenError) as error:
        report(f"openvino int8 is tried again with sums in float32: {error}")
    return _int8_attempt(folder, recorded, held_out, float_sums=True)


def _int8_attempt(folder: Path, recorded: Golden, held_out: HeldOut, *, float_sums: bool) -> dict[str, Any]:
    quantize(folder, held_out.calibration_images, float_sums=float_sums)
    int8 = choose("openvino-int8", folder)
    _replay(recorded, int8)
    comparison = compare(choose("openvino-float32", folder), int8, held_out)
    check(comparison)
    calibration = {"calibration_pictures": len(held_out.calibration_images), "float_sums": float_sums}
    return calibration | asdict(comparison)


def _replay(recorded: Golden, engine: Engine) -> None:
    golden.replay(recorded, engine, GOLDEN_TOLERANCE[engine.precision])


def _reason(error: Exception) -> str:
    if isinstance(error, ServiceError | TrainingError):
        return str(error)
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
