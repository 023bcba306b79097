"""The page about a version, from what a network for three colours said."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fakes import CARD, strongest_colour

from app.engines import Prediction
from app.manifest import Calibration, ConformalThreshold, File, Manifest, complete
from training.assessment import CORRUPTED, ENLARGED, UNDISTURBED, Assessment, corruption
from training.corruption import CORRUPTIONS
from training.figures import Scribe
from training.history import Epoch
from training.report import page, write_report
from training.split import Pictures

CLEAN = "colours test"
VOID = {"br", "img", "meta", "path", "use"}


class Structure(HTMLParser):
    """Checks that every element is closed, and collects the headings and where links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def read(html: str) -> Structure:
    structure = Structure()
    structure.feed(html)
    assert structure.open == []
    return structure


def assessment(calibration: Calibration) -> Assessment:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)
    said = strongest_colour(images)
    labels = random.integers(0, 3, 90)
    scribe = Scribe("fake", "float32")
    measurements = scribe.clean(CLEAN, said, labels, calibration)
    for data in (*map(corruption, CORRUPTIONS), CORRUPTED, UNDISTURBED, ENLARGED):
        measurements.append(scribe.note("accuracy", f"{CLEAN}, {data}", 0.75, 90))
    measurements.append(scribe.note("ood_auroc", "photographs of <other> things", 0.875, 7))
    pictures = Pictures(images, labels)
    return Assessment(tuple(measurements), scribe.in_detail(CLEAN, said, labels), pictures, said)


def manifest(calibration: Calibration) -> Manifest:
    return complete(
        CARD.model_copy(
            update={
                "calibration": calibration,
                "lineage": {"hours": 1.5, "recipe": "<b>", "git": {"clean": True}},
            }
        ),
        name="colours",
        version=3,
        created=datetime(2026, 11, 24, 12, tzinfo=UTC),
        files={"golden.npz": File(sha256="0" * 64, bytes=1)},
    )


CALIBRATED = Calibration(
    temperature=1.5,
    conformal_thresholds=(ConformalThreshold(coverage=0.9, threshold=0.2),),
    ood_threshold=1.0,
)
EPOCHS = [Epoch(n, 16 * (1 + n // 3), 0.1, 2.0 / n, 0.3 + 0.1 * n) for n in range(1, 5)]


@pytest.fixture(scope="module")
def html() -> str:
    return page(manifest(CALIBRATED), assessment(CALIBRATED), EPOCHS)


def test_the_page_has_every_part_and_needs_nothing_beside_it(html: str) -> None:
    structure = read(html)
    assert structure.headings == [
        "How it learnt",
        "What it gets right",
        "How far it can be believed",
        "What disturbs it",
        "Beyond the data set",
        "Its most confident mistakes",
        "Every figure",
        "How it came to be",
    ]
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in structure.sources)
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)


def test_what_was_measured_is_on_it(html: str) -> None:
    said = assessment(CALIBRATED)
    for each in said.measurements:
        assert f"{each.value:.4f}" in html
    assert "divided by 1.500" in html
    assert "90%" in html
    assert "photographs of &lt;other&gt; things" in html
    assert "git.clean" in html
    assert "<b>&lt;" not in html
    assert "&lt;b&gt;" in html


def test_mistakes_are_shown_from_the_surest_on(html: str) -> None:
    shown = [float(share) for share in re.findall(r"(?:red|green|blue), ([\d.]+)%<br>", html)]
    assert len(shown) == 32
    assert shown == sorted(shown, reverse=True)


def test_ids_of_several_plots_do_not_meet(html: str) -> None:
    plots = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(plots) == 4
    used = [set(re.findall(r'(?:href="#|url\(#)([\w-]+)', plot)) for plot in plots]
    defined = [set(re.findall(r'id="([\w-]+)"', plot)) for plot in plots]
    for index, names in enumerate(used):
        assert names <= defined[index]
        others = set().union(*(ids for place, ids in enumerate(defined) if place != index))
        assert not names & others


def test_without_calibration_history_and_mistakes_the_page_is_shorter(tmp_path: Path) -> None:
    right = assessment(Calibration())
    labels = right.prediction.probabilities.argmax(axis=1)
    scribe = Scribe("fake", "float32")
    all_right = Assessment(
        tuple(scribe.clean(CLEAN, right.prediction, labels, Calibration())),
        scribe.in_detail(CLEAN, right.prediction, labels),
        Pictures(right.pictures.images, labels),
        Prediction(right.prediction.probabilities, right.prediction.ood_score),
    )
    path = tmp_path / "run" / "report.html"
    write_report(path, manifest(Calibration()), all_right)
    html = path.read_text()
    headings = ["What it gets right", "How far it can be believed", "Every figure", "How it came to be"]
    assert read(html).headings == headings
    assert "No pictures were held out" in html
