"""The card of a version says what its manifest says, to programs and to people."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from xml.etree import ElementTree as ET

import httpx2 as httpx
import pytest
from fakes import CALIBRATED, CARD, MODEL, FakeEngine, publish_fake
from hypothesis import given
from hypothesis import strategies as st

from app.api import reliability
from app.manifest import FILE_NAME, ReliabilityBin
from app.repository import Repository
from app.settings import Settings

CARD_PATH = f"/models/{MODEL}/versions/1"
ServingWith = Callable[[Settings, FakeEngine], AbstractContextManager[httpx.Client]]
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def test_the_card_is_the_manifest_and_what_follows_from_it(calibrated: httpx.Client) -> None:
    card = calibrated.get(CARD_PATH).json()
    stated = CALIBRATED.model_dump(mode="json")
    assert {name: card[name] for name in stated} == stated
    assert (card["name"], card["version"]) == (MODEL, "1")
    assert card["weights"] == card["files"]["variables/variables.data-00000-of-00001"]["sha256"]


def test_classes_are_counted_from_the_confusion_matrix(calibrated: httpx.Client) -> None:
    assert calibrated.get(CARD_PATH).json()["classes"] == [
        {"label": "red", "pictures": 2, "recall": 1.0, "precision": 2 / 3},
        {"label": "green", "pictures": 2, "recall": 0.5, "precision": 1.0},
        {"label": "blue", "pictures": 0, "recall": None, "precision": None},
    ]


def test_a_browser_gets_a_page_with_all_of_it(calibrated: httpx.Client) -> None:
    answer = calibrated.get(CARD_PATH, headers=BROWSER)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["vary"] == "Accept"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    text = answer.text
    assert "Not measured" not in text
    for found in ("66.7%", "0.75", "<svg", "truth \\ answer", "golden.npz", "confidence 50.0%"):
        assert found in text


def test_what_was_not_measured_is_said_not_to_be(client: httpx.Client) -> None:
    card = client.get(CARD_PATH).json()
    assert card["evaluation"] is card["classes"] is card["weights"] is None
    page = client.get(CARD_PATH, headers=BROWSER).text
    assert page.count("Not measured") == 4
    assert "<svg" not in page


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html", "text/html"),
        ("TEXT/HTML; charset=utf-8", "text/html"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/html;q=0.5, */*;q=0.1", "text/html"),
        ("text/html, application/json", "application/json"),
        ("text/html;q=0", "application/json"),
        ("text/html;q=high, ,;;", "text/html"),
        ("image/png", "application/json"),
    ],
)
def test_the_form_is_the_one_that_is_liked_more(client: httpx.Client, accept: str | None, kind: str) -> None:
    request = client.build_request("GET", CARD_PATH)
    del request.headers["accept"]
    if accept is not None:
        request.headers["Accept"] = accept
    assert client.send(request).headers["content-type"].startswith(kind)


@pytest.mark.parametrize(
    "path",
    [
        f"/models/{MODEL}/versions/2",
        f"/models/{MODEL}/versions/one",
        f"/models/{MODEL}/versions/01",
        f"/models/{MODEL}/versions/{'9' * 5000}",
        "/models/nobody/versions/1",
        "/models/%2e%2e/versions/1",
        f"/models/{MODEL}%0a/versions/1",
    ],
)
def test_another_version_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")


def test_words_of_a_manifest_are_shown_as_words(settings: Settings, serving_with: ServingWith) -> None:
    hostile = "<script>alert(1)</script>"
    measured = CALIBRATED.measurements[0].model_copy(update={"data": hostile})
    card = CARD.model_copy(update={"lineage": {hostile: hostile}, "measurements": (measured,)})
    publish_fake(Repository(settings.model_root), card)
    with serving_with(settings, FakeEngine()) as client:
        page = client.get(f"/models/{MODEL}/versions/2", headers=BROWSER).text
        assert "<script" not in page
        assert page.count("&lt;script&gt;") == 3
        broken = settings.model_root / MODEL / "2" / FILE_NAME
        broken.write_text("{")
        answer = client.get(f"/models/{MODEL}/versions/2")
        assert (answer.status_code, answer.json()["code"]) == (500, "damaged_version")
        assert str(settings.model_root) not in answer.text


@given(
    st.lists(
        st.builds(
            ReliabilityBin,
            confidence=st.floats(0, 1),
            accuracy=st.floats(0, 1),
            pictures=st.integers(1, 10**9),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_a_reliability_diagram_has_every_bin_inside_its_frame(bins: list[ReliabilityBin]) -> None:
    svg = ET.fromstring(reliability.diagram(bins))  # noqa: S314 (ours)
    frame = next(svg.iter("rect"))
    left, top = float(frame.get("x", "")), float(frame.get("y", ""))
    circles = list(svg.iter("circle"))
    assert len(circles) == len(bins)
    for circle, each in zip(circles, bins, strict=True):
        x, y = float(circle.get("cx", "")), float(circle.get("cy", ""))
        assert x == pytest.approx(left + each.confidence * float(frame.get("width", "")), abs=0.06)
        assert y == pytest.approx(top + (1 - each.accuracy) * float(frame.get("height", "")), abs=0.06)
        assert re.search(r"\d pictures$", circle[0].text or "")
