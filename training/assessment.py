"""The final evaluation of a version whose every choice is made; the only code that sees the test pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.engines import AUTO, Engine, Prediction, candidates, choose
from app.errors import EngineUnavailableError
from app.manifest import Calibration, Evaluation, Measurement
from training.corruption import CORRUPTIONS, corrupt
from training.data import Dataset
from training.evaluation import enlarged_jpeg, png, predict
from training.figures import Scribe
from training.photographs import Photographs, read_photographs
from training.split import Pictures

SEVERITY = 3  # of 1 to 5
CORRUPTED = f"mean of {len(CORRUPTIONS)} corruptions, severity {SEVERITY}"
ENLARGED = "enlarged, as JPEG of quality 85"
UNDISTURBED = "the same pictures undisturbed"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Extent:
    """What is measured beside the clean test pictures, on the engine that a service would choose.

    `disturbed` is how many test pictures go through every corruption, and are sent as enlarged JPEG files;
    at most all, and 0 for none.
    """

    disturbed: int = 2_000
    photographs: Photographs | None = None

    @classmethod
    def chosen(
        cls, disturbed: int, photographs: Path | None, class_names: tuple[str, ...], size: tuple[int, int]
    ) -> "Extent":
        """From a folder of photographs, brought to (height, width).

        Raises:
            DataError: they cannot be used.
        """
        found = read_photographs(photographs, class_names, size) if photographs else None
        return cls(disturbed, found)


ALL = Extent()


@dataclass(frozen=True, eq=False)
class Assessment:
    """What was measured, and what the engine that a service would choose said about each test picture."""

    measurements: tuple[Measurement, ...]
    evaluation: Evaluation
    pictures: Pictures
    prediction: Prediction


def corruption(name: str) -> str:
    """What the figures call it."""
    return f"{name}, severity {SEVERITY}"


def test_pictures(data: Dataset) -> Pictures:
    """What nothing may be chosen by; a test sees to it that only `assess` asks for them."""
    return Pictures(data.test_images, data.test_labels)


def assess(
    folder: Path,
    calibration: Calibration,
    data: Dataset,
    extent: Extent,
    report: Report = lambda _: None,
) -> Assessment:
    """Measures the files in ``folder`` with every engine that can run them here, the reference first.

    ``report`` hears each result.
    """
    pictures, clean = test_pictures(data), f"{data.name} {data.test_set}"
    loaded = list(engines(folder))
    predictions = [predict(engine, pictures.images) for engine in loaded]
    measurements: list[Measurement] = []
    for engine, prediction in zip(loaded, predictions, strict=True):
        measurements += _clean(engine, clean, prediction, pictures, calibration, report)
    served, prediction = loaded[-1], predictions[-1]
    for measurement in (
        *_disturbed(served, clean, pictures.divided(extent.disturbed)[0]),
        *_photographed(served, extent.photographs, prediction, calibration),
    ):
        measurements.append(measurement)
        value = f"{measurement.metric} {measurement.value:.4f}"
        report(f"{measurement.data} ({measurement.pictures:,} pictures): {value}")
    evaluation = Scribe.of(served).in_detail(clean, prediction, pictures.labels)
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
    engine: Engine,
    data: str,
    prediction: Prediction,
    pictures: Pictures,
    calibration: Calibration,
    report: Report,
) -> list[Measurement]:
    found = Scribe.of(engine).clean(data, prediction, pictures.labels, calibration)
    values = {each.metric: each.value for each in found}
    report(
        f"{engine.name} {engine.precision}: loss {values['nll']:.4f}, accuracy "
        f"{values['accuracy']:.2%} on {data} ({len(pictures):,} pictures)"
    )
    return found


def _disturbed(engine: Engine, clean: str, pictures: Pictures) -> Iterator[Measurement]:
    """Accuracy on test pictures after every corruption, their mean, and as somebody might send them."""
    if not len(pictures):
        return
    scribe = Scribe.of(engine)
    found = []
    for name in CORRUPTIONS:
        images = corrupt(pictures.images, name, SEVERITY)
        data = f"{clean}, {corruption(name)}"
        found.append(scribe.accuracy(data, engine, images, pictures.labels))
        yield found[-1]
    mean = sum(each.value for each in found) / len(found)
    yield scribe.note("accuracy", f"{clean}, {CORRUPTED}", mean, len(pictures))
    for data, encode in ((UNDISTURBED, png), (ENLARGED, enlarged_jpeg)):
        yield scribe.accuracy(f"{clean}, {data}", engine, pictures.images, pictures.labels, encode)


def _photographed(
    engine: Engine, photographs: Photographs | None, of_test: Prediction, calibration: Calibration
) -> Iterator[Measurement]:
    if photographs:
        said = predict(engine, photographs.images)
        yield from Scribe.of(engine).photographed(photographs, said, of_test, calibration)
