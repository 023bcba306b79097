"""OpenVINO's files beside the SavedModel: each is published only if it does what the SavedModel does."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from app import golden
from app.engines import Engine, choose, openvino
from app.errors import ServiceError
from app.golden import Golden
from training.conversion import convert
from training.errors import TrainingError
from training.quantization import HeldOut, check, compare, quantize

# Largest difference in a probability on the golden pictures, which are unlike any class and so lie nearer to
# the border between classes than pictures of the data set do.
GOLDEN_TOLERANCE: Final = {"float32": 0.01, "bfloat16": 0.1, "int8": 0.3}

Report = Callable[[str], None]


def derive(folder: Path, recorded: Golden, held_out: HeldOut, report: Report) -> dict[str, Any]:
    """Adds float32 and, if it passes its gate, int8 to the version in ``folder``; never fails.

    Returns, for the lineage, what was found out about each precision, or why it is not published. ``report``
    hears the reasons too.
    """
    attempts: dict[str, tuple[Path, Callable[[], dict[str, Any]]]] = {
        "float32": (openvino.MODEL, lambda: _float32(folder, recorded)),
        "int8": (openvino.QUANTIZED, lambda: _int8(folder, recorded, held_out)),
    }
    found: dict[str, Any] = {}
    for precision, (path, attempt) in attempts.items():
        try:
            found[precision] = {"published": True} | attempt()
        except Exception as error:  # noqa: BLE001 - whatever it is, the SavedModel can be published without
            for file in (path, path.with_suffix(".bin")):
                (folder / file).unlink(missing_ok=True)
            found[precision] = {"published": False, "reason": _reason(error)}
            report(f"openvino {precision} is not published: {_reason(error)}")
    return found


def _float32(folder: Path, recorded: Golden) -> dict[str, Any]:
    convert(folder)
    _replay(recorded, choose("openvino-float32", folder))
    return {}


def _int8(folder: Path, recorded: Golden, held_out: HeldOut) -> dict[str, Any]:
    float32 = choose("openvino-float32", folder)
    quantize(folder, held_out.calibration_images)
    int8 = choose("openvino-int8", folder)
    comparison = compare(float32, int8, held_out)
    check(comparison)
    _replay(recorded, int8)
    return {"calibration_pictures": len(held_out.calibration_images)} | asdict(comparison)


def _replay(recorded: Golden, engine: Engine) -> None:
    golden.replay(recorded, engine, GOLDEN_TOLERANCE[engine.precision])


def _reason(error: Exception) -> str:
    if isinstance(error, ServiceError | TrainingError):
        return str(error)
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
