"""What an answer says about itself: how sure, of what, and by which weights."""

import base64
import hashlib
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from conftest import Encode
from fakes import CALIBRATED, strongest_colour
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.api.schemas import BatchResult, Classification

COVERAGES = [each.coverage for each in CALIBRATED.calibration.conformal_thresholds]
NAMES = CALIBRATED.class_names


def flat(*levels: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.new("RGB", size, levels)


def ask(client: httpx.Client, data: bytes, **query: Any) -> dict[str, Any]:
    answer = client.post("/predict", params=query, files={"file": data})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refusal(client: httpx.Client, data: bytes, path: str = "/predict", **query: Any) -> str:
    answer = client.post(path, params=query, files={"file": data})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    return str(answer.json()["detail"])


def expected_set(probabilities: Mapping[str, float], threshold: float) -> list[str]:
    ranked = sorted(probabilities, key=lambda name: -probabilities[name])
    return ranked[:1] + [name for name in ranked[1:] if probabilities[name] >= threshold]


@given(levels=st.tuples(*[st.integers(0, 255)] * 3), coverage=st.sampled_from(COVERAGES))
def test_the_set_holds_every_class_from_the_threshold_up_and_is_never_empty(
    calibrated: httpx.Client, encode: Encode, levels: tuple[int, int, int], coverage: float
) -> None:
    body = ask(calibrated, encode(flat(*levels)), coverage=coverage)
    threshold = CALIBRATED.calibration.threshold(coverage)
    assert threshold is not None
    assert body["confidence_set"] == {
        "coverage": coverage,
        "labels": expected_set(body["probabilities"], threshold),
    }
    assert body["confidence_set"]["labels"][0] == body["label"]


def test_more_coverage_never_takes_a_label_out(calibrated: httpx.Client, encode: Encode) -> None:
    data = encode(flat(120, 110, 20))
    sets = [set(ask(calibrated, data, coverage=each)["confidence_set"]["labels"]) for each in COVERAGES]
    assert sets[0] < sets[1] <= sets[2]


def test_without_a_wish_the_coverage_is_that_of_the_settings(
    calibrated: httpx.Client, encode: Encode
) -> None:
    assert ask(calibrated, encode("red"))["confidence_set"]["coverage"] == 0.95


@pytest.mark.parametrize("coverage", ["0.8", "1", "0", "-0.9", "95", "1e-1", "nan", "x" * 999, ""])
def test_a_coverage_that_was_not_calibrated_is_told_which_were(
    calibrated: httpx.Client, encode: Encode, coverage: str
) -> None:
    detail = refusal(calibrated, encode("red"), coverage=coverage)
    assert "coverage must be one of 0.9, 0.95, 0.99" in detail
    assert len(detail) < 300


def test_light_tells_what_is_like_the_pictures_of_training(calibrated: httpx.Client, encode: Encode) -> None:
    bright, dark = flat(200, 20, 20), flat(10, 0, 0)
    for image, is_like in ((bright, True), (dark, False)):
        body = ask(calibrated, encode(image))
        score = strongest_colour(np.asarray(image)[np.newaxis]).ood_score[0]
        assert np.float32(body["ood_score"]) == score
        assert (body["in_distribution"], body["ood_threshold"]) == (is_like, -2.0)


def test_what_answered_is_named_to_its_weights(calibrated: httpx.Client, encode: Encode) -> None:
    model = ask(calibrated, encode("red"))["model"]
    assert model["accuracy"] == 0.75
    assert model["weights"] == hashlib.sha256(b"weights").hexdigest()[:12]


def test_a_version_without_calibration_says_so_with_nulls(client: httpx.Client, encode: Encode) -> None:
    body = ask(client, encode("red"))
    assert body["confidence_set"] is body["in_distribution"] is body["ood_threshold"] is None
    assert body["model"]["accuracy"] is body["model"]["weights"] is None
    assert isinstance(body["ood_score"], float)
    assert "without thresholds" in refusal(client, encode("red"), coverage=0.9)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_what_the_network_saw_comes_back_pixel_for_pixel(
    calibrated: httpx.Client, encode: Encode, mode: str
) -> None:
    image = Image.effect_noise((90, 70), 80).convert(mode)
    seen = ask(calibrated, encode(image), input="true")["input"]
    pixels = Image.open(BytesIO(base64.b64decode(seen["png"])))
    assert (seen["width"], seen["height"], pixels.format, pixels.size) == (32, 32, "PNG", (32, 32))
    again = ask(calibrated, encode(pixels))
    assert again["probabilities"] == ask(calibrated, encode(image))["probabilities"]


def test_the_input_is_only_there_when_it_is_wanted(calibrated: httpx.Client, encode: Encode) -> None:
    assert "input" not in ask(calibrated, encode("red"))
    assert "input" not in ask(calibrated, encode("red"), input="false")
    assert "true or false" in refusal(calibrated, encode("red"), input="yes")


def test_each_picture_of_several_gets_all_of_it(calibrated: httpx.Client, encode: Encode) -> None:
    colours = ("red", "lime")
    files = [("file", encode(colour)) for colour in colours]
    query = {"coverage": "0.9", "input": "true"}
    answer = calibrated.post("/predict/batch", params=query, files=files).json()
    for colour, found in zip(colours, answer["results"], strict=True):
        alone = ask(calibrated, encode(colour), **query)
        assert found == {"index": found["index"]} | alone
    refusal(calibrated, encode("red"), "/predict/batch", coverage=0.8)


@pytest.mark.parametrize(
    "query", [{}, {"top_k": 3}, {"input": "true"}, {"coverage": 0.9, "top_k": 1}], ids=str
)
def test_answers_are_as_they_are_described(
    calibrated: httpx.Client, encode: Encode, query: dict[str, Any]
) -> None:
    """They are written as they are, not through the description that is published."""
    answer = calibrated.post("/predict", params=query, files={"file": encode("red")})
    described = Classification.model_validate_json(answer.content, strict=True)
    assert described.model_dump_json() == answer.text
    files = [("file", encode("red")), ("file", b"no picture")]
    answer = calibrated.post("/predict/batch", params=query, files=files)
    assert BatchResult.model_validate_json(answer.content, strict=True).model_dump_json() == answer.text


def test_answers_without_calibration_are_as_they_are_described(client: httpx.Client, encode: Encode) -> None:
    text = client.post("/predict", files={"file": encode("red")}).text
    assert Classification.model_validate_json(text, strict=True).model_dump_json() == text
