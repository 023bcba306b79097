"""The engine for processors: runs what training derived from the SavedModel, in three precisions."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from app import parallel
from app.cores import available_cores
from app.engines import QUANTIZED, Loader, Prediction
from app.engines.lending import Lending, concurrency
from app.errors import EngineError, EngineUnavailableError

# Importing OpenVINO reports to its makers and writes into the home folder, unless this package is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402

Precision = Literal["float32", "bfloat16", "int8"]

MODEL: Final = Path("openvino", "model.xml")
OUTPUTS: Final = ("probabilities", "ood_score")
# More pictures at a time bring no more a second here, and the more there are, the longer each of them waits.
BATCH_SIZES: Final = (1, 2, 4, 8)
_LARGEST: Final = BATCH_SIZES[-1]
_DEVICE: Final = "CPU"


class OpenVINOEngine:
    """Computes several batches at the same time, as a rule each on its own core, and a lone picture on all.

    Cores that share a batch wait for each other after every layer. That makes a lone picture twice as fast on
    two of them, but while others want these cores too (HTTP does), a batch for each brings a third more.
    """

    name = "openvino"
    batch_sizes = BATCH_SIZES
    ahead = 1

    def __init__(self, folder: Path, threads: int = 0, streams: int = 0, *, precision: Precision) -> None:
        """Loads the file for `precision` in `folder`, on at most `threads` cores (0 for all there are).

        They share `streams` batches, at most one for each core (0 for that, up to eight).

        Raises:
            EngineUnavailableError: that precision was not published, or this processor does not have it.
            EngineError: OpenVINO cannot load the file, or it is another kind of model.
        """
        self.precision: str = precision
        cores = threads or available_cores()
        self.concurrency = concurrency(cores, streams)
        core, has_bfloat16 = parallel.apart(_core)
        if precision == "bfloat16" and not has_bfloat16:
            raise EngineUnavailableError("This processor does not compute in bfloat16.")
        path = folder / (QUANTIZED if precision == "int8" else MODEL)
        if not path.is_file():
            raise EngineUnavailableError(f"The version in {folder} was published without {path.name}.")
        options = _options(cores, "bf16" if has_bfloat16 and precision != "float32" else "f32")
        try:
            model = core.read_model(path)
            _check(model, path)
            alone, largest, others = _compiled(core, model, options, self.concurrency)
            beside = [
                dict.fromkeys(BATCH_SIZES, _Plan(others)) | {_LARGEST: _Plan(largest)}
                for _ in range(self.concurrency + self.ahead)
            ]
            self._plans: Lending[_Plans] = Lending({1: _Plan(alone)}, beside)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot load {path}.") from error

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """See `Engine.predict`."""
        count = len(images)
        try:
            with self._plans.lent(count) as plans:
                parts = [plans[size].run(images[start : start + size]) for start, size in _parts(count)]
        except (RuntimeError, ValueError) as error:
            raise EngineError(
                f"OpenVINO failed on {count} pictures of shape {list(images.shape[1:])}."
            ) from error
        return Prediction.joined(parts)

    def close(self) -> None:
        """See `Engine.close`."""
        self._plans.close()


float32: Loader = partial(OpenVINOEngine, precision="float32")
bfloat16: Loader = partial(OpenVINOEngine, precision="bfloat16")
int8: Loader = partial(OpenVINOEngine, precision="int8")


def _core() -> tuple[Any, bool]:
    """OpenVINO's core with its device in it, and whether that computes in bfloat16.

    To be called in a thread that ends: the one that loads the device gets another stack for the handlers of
    signals (`SigAltStackSetup` in OpenVINO's intel_cpu), which is gone with the core while the thread may
    still have it. The next signal would then end the process, without a word.
    """
    core = ov.Core()
    return core, "BF16" in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")


def _options(threads: int, floats: str) -> dict[str, Any]:
    """How to compute; ``floats`` is the precision of what the file has in float32."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": floats,
        # Several workers would pin themselves to the same cores.
        "ENABLE_CPU_PINNING": False,
    }


class _Plan:
    """How to compute a batch; each has memory of its own, so it computes one at a time."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        # Outputs by their places: to name them takes as long as a tenth of a picture.
        self._places = [_place(compiled, name) for name in OUTPUTS]
        self._pixels: NDArray[np.uint8] | None = None
        if compiled.input().get_partial_shape().is_static:
            self._pixels = self._request.get_input_tensor().data

    def run(self, images: NDArray[np.uint8]) -> Prediction:
        """Raises RuntimeError or ValueError if it cannot."""
        if self._pixels is None:
            images = np.ascontiguousarray(images)  # and has to stay until the end
            can_share = images.flags.writeable  # OpenVINO takes the memory of no other
            self._request.set_input_tensor(ov.Tensor(images, shared_memory=can_share))
        elif images.shape == self._pixels.shape:
            np.copyto(self._pixels, images)
        else:
            raise ValueError(f"this is a plan for pictures of shape {self._pixels.shape}")
        # Not `start_async`, which may hold Python's lock until the other threads let it go on.
        self._request.infer(share_outputs=True)
        # What is there is OpenVINO's own memory, overwritten by the next batch.
        probabilities, ood_score = (self._request.get_output_tensor(place).data for place in self._places)
        return Prediction(probabilities.copy(), ood_score.copy())


_Plans = dict[int, _Plan]  # by the number of pictures


def _compiled(core: Any, model: Any, options: dict[str, Any], concurrency: int) -> list[Any]:
    """For a lone picture on all cores; for full batches at the same time; and for smaller ones.

    Full batches are what runs under load. What is made for one size only is 2 % faster, and its memory is
    that of what is made for all.
    """
    alone, beside = {**options, "NUM_STREAMS": 1}, {**options, "NUM_STREAMS": concurrency}
    wanted = ((_sized(model, 1), alone), (_sized(model, _LARGEST), beside), (model, beside))
    compiling = [partial(core.compile_model, each, _DEVICE, how) for each, how in wanted]
    return parallel.run(compiling, options["INFERENCE_NUM_THREADS"])


def _sized(model: Any, count: int) -> Any:
    """The same for exactly so many pictures at a time."""
    sized = model.clone()
    _, *shape = sized.input().get_partial_shape()
    sized.reshape(ov.PartialShape([count, *shape]))
    return sized


def _check(model: Any, path: Path) -> None:
    names = [output.get_any_name() for output in model.outputs]
    if set(names) != set(OUTPUTS) or len(model.inputs) != 1:
        raise EngineError(
            f"{path} has the outputs {', '.join(names) or 'none'}; {' and '.join(OUTPUTS)} are expected. "
            "Publish the version again."
        )


def _place(model: Any, name: str) -> int:
    """Which of the outputs has this name."""
    return next(place for place, output in enumerate(model.outputs) if name in output.get_names())


def _parts(count: int) -> Iterator[tuple[int, int]]:
    """Starts and sizes that run, largest first: padding 33 pictures to 64 would nearly double the time."""
    start = 0
    while start < count:
        size = next(size for size in reversed(BATCH_SIZES) if size <= count - start)
        yield start, size
        start += size
