"""The final evaluation of a version whose every choice is made; the only code that sees the test pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.engines import AUTO, Engine, Prediction, candidates, choose
from app.errors import EngineUnavailableError
from app.manifest import Calibration, Evaluation, Measurement
from training.data import Dataset
from training.evaluation import predict
from training.figures import Scribe
from training.split import Pictures

CLEAN = "CIFAR-10 test"

Report = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Assessment:
    """What was measured, and what the engine that a service would choose said about each test picture."""

    measurements: tuple[Measurement, ...]
    evaluation: Evaluation
    pictures: Pictures
    prediction: Prediction


def test_pictures(data: Dataset) -> Pictures:
    """What nothing may be chosen by; a test sees to it that only `assess` asks for them."""
    return Pictures(data.test_images, data.test_labels)


def assess(
    folder: Path, calibration: Calibration, data: Dataset, report: Report = lambda _: None
) -> Assessment:
    """Measures the files in ``folder`` with every engine that can run them here, the reference first.

    The last engine is the one that a service would choose. ``report`` hears each result.
    """
    pictures = test_pictures(data)
    loaded = list(engines(folder))
    predictions = [predict(engine, pictures.images) for engine in loaded]
    measurements: list[Measurement] = []
    for engine, prediction in zip(loaded, predictions, strict=True):
        measurements += _clean(engine, prediction, pictures, calibration, report)
    served, prediction = loaded[-1], predictions[-1]
    evaluation = Scribe.of(served).in_detail(CLEAN, prediction, pictures.labels)
    for engine in loaded:
        engine.close()
    return Assessment(tuple(measurements), evaluation, pictures, prediction)


def engines(folder: Path) -> Iterator[Engine]:
    """All that can run the version here, loaded, the reference first and the fastest last."""
    for name in reversed(candidates(AUTO)):
        try:
            engine = choose(name, folder)
        except EngineUnavailableError:
            continue
        yield engine


def _clean(
    engine: Engine, prediction: Prediction, pictures: Pictures, calibration: Calibration, report: Report
) -> list[Measurement]:
    found = Scribe.of(engine).clean(CLEAN, prediction, pictures.labels, calibration)
    values = {each.metric: each.value for each in found}
    report(
        f"{engine.name} {engine.precision}: test loss {values['nll']:.4f}, test accuracy "
        f"{values['accuracy']:.2%} on {len(pictures):,} pictures"
    )
    return found
