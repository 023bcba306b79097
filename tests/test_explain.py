"""An explanation shows where the model looks, on the picture that was sent, and keeps out of the way."""

import base64
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from io import BytesIO
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from conftest import Encode
from fakes import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from app import importance, overlay
from app.api.explain import ExplanationAnswer
from app.geometry import FITS, Fit
from app.importance import GRID, Importance
from app.settings import Settings

ServingWith = Callable[[Settings, FakeEngine], AbstractContextManager[httpx.Client]]
Pixels = NDArray[np.uint8]


def patch(row: int, column: int, colour: tuple[int, int, int] = (255, 40, 40), side: int = 32) -> Image.Image:
    """A dim picture with a bright square of two cells by two, whose upper left cell is given."""
    pixels = np.full((side, side, 3), 60, dtype=np.uint8)
    cell = side // GRID
    pixels[row * cell : (row + 2) * cell, column * cell : (column + 2) * cell] = colour
    return Image.fromarray(pixels)


def explain(client: httpx.Client, data: bytes, **query: str) -> dict[str, Any]:
    answer = client.post("/explain", params=query, files={"file": data})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def picture(answer: dict[str, Any]) -> Pixels:
    image = Image.open(BytesIO(base64.b64decode(answer["overlay"])))
    assert image.format == "PNG"
    return np.asarray(image)


def most_important(answer: dict[str, Any], count: int) -> set[tuple[int, int]]:
    found = np.array(answer["map"])
    return {divmod(int(index), GRID) for index in np.argsort(-found, axis=None)[:count]}


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 5), (6, 2), (4, 4)])
def test_the_map_points_to_where_the_model_looks(
    client: httpx.Client, encode: Encode, row: int, column: int
) -> None:
    answer = explain(client, encode(patch(row, column)))
    assert answer["label"] == "red"
    found = np.array(answer["map"])
    assert found.shape == (GRID, GRID)
    assert found.min() >= 0
    assert found.max() == 1
    assert most_important(answer, 4) == {(row + y, column + x) for y in (0, 1) for x in (0, 1)}


def test_any_other_label_can_be_explained(client: httpx.Client, encode: Encode) -> None:
    image = np.asarray(patch(1, 1)).copy()
    image[20:28, 20:28] = (40, 40, 250)
    data = encode(Image.fromarray(image))
    answer = explain(client, data, label="blue")
    assert (answer["label"], answer["class_id"]) == ("blue", 2)
    assert most_important(answer, 4) == {(5, 5), (5, 6), (6, 5), (6, 6)}
    predicted = client.post("/predict", files={"file": data}).json()
    assert answer["probability"] == pytest.approx(predicted["probabilities"]["blue"])
    assert {name: answer[name] for name in ("model", "image")} == {
        name: predicted[name] for name in ("model", "image")
    }


def test_a_label_that_the_model_does_not_know_is_told_which_it_does(
    client: httpx.Client, encode: Encode
) -> None:
    answer = client.post("/explain?label=purple", files={"file": encode("red")})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert "one of red, green, blue;" in answer.json()["detail"]
    assert "purple" not in answer.text


def test_the_same_picture_has_the_same_explanation(client: httpx.Client, encode: Encode) -> None:
    data = encode(Image.effect_noise((40, 40), 90).convert("RGB"))
    assert explain(client, data) == explain(client, data)


def test_a_picture_without_anything_in_it_has_a_map_of_nothing(client: httpx.Client, encode: Encode) -> None:
    assert not np.array(explain(client, encode("red"))["map"]).any()


@pytest.mark.parametrize(
    ("size", "shown"), [((64, 48), (64, 48)), ((1600, 800), (384, 192)), ((5, 3), (5, 3))]
)
def test_the_overlay_is_the_picture_itself_in_a_bounded_size(
    client: httpx.Client, encode: Encode, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    pixels = picture(explain(client, encode(Image.new("RGB", size, "red"))))
    assert pixels.shape == (shown[1], shown[0], 3)
    # Nothing in it counts, so all of it is as dark as it gets, and grey.
    assert (pixels == pixels[0, 0]).all()
    assert len(set(pixels[0, 0].tolist())) == 1


def test_the_overlay_stands_upright_and_lights_what_counts(client: httpx.Client, encode: Encode) -> None:
    image = patch(0, 0, side=64)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise, so its upper left corner is seen at the upper right
    answer = explain(client, encode(image, "PNG", exif=exif))
    pixels = picture(answer).astype(int)
    assert answer["image"]["notes"] == ["rotated"]
    assert most_important(answer, 4) == {(0, 6), (0, 7), (1, 6), (1, 7)}
    assert pixels[4, -4].tolist() == pytest.approx([255, 40, 40], abs=40)
    assert pixels[-4, 4].max() < 0.4 * 60


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    seen=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    fit=st.sampled_from(FITS),
)
def test_light_only_falls_on_what_the_network_saw(
    height: int, width: int, seen: tuple[int, int], fit: Fit
) -> None:
    white = np.full((height, width, 3), 255, dtype=np.uint8)
    whole = np.ones((GRID, GRID), dtype=np.float32)
    shown = np.asarray(Image.open(BytesIO(overlay.png(white, whole, seen, fit))))
    assert shown.shape == white.shape
    lit = (shown[..., 0] == 255).mean()
    if fit == "squash":
        assert lit == 1
    else:
        ratio = (width / height) / (seen[1] / seen[0])
        assert lit == pytest.approx(min(ratio, 1 / ratio), abs=2 / min(height, width) + 0.05)


@given(height=st.integers(1, 70), width=st.integers(1, 70), cells=st.sets(st.integers(0, GRID * GRID - 1)))
def test_blanking_hides_the_cells_of_the_mask_and_no_others(height: int, width: int, cells: set[int]) -> None:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[0, 0] = 200
    mean = pixels.reshape(-1, 3).mean(axis=0).round()
    mask = np.zeros((1, GRID * GRID), dtype=np.bool_)
    mask[0, list(cells)] = True
    rows, columns = np.indices((height, width))
    is_hidden = np.isin(rows * GRID // height * GRID + columns * GRID // width, list(cells))
    expected = np.where(is_hidden[..., np.newaxis], mean, pixels)
    assert np.array_equal(importance.blanked(pixels, mask)[0], expected)


def test_every_cell_is_blanked_as_often_as_the_others() -> None:
    masks = importance.first_masks()
    assert (masks.sum(axis=1) == importance.BLANKED).all()
    times = masks.sum(axis=0)
    assert times.max() - times.min() <= 1


def test_what_is_certain_can_be_explained_too() -> None:
    found = Importance(1.0)
    masks = importance.first_masks()
    found.learn(masks, np.where(masks[:, 9], 0.0, 1.0).astype(np.float32))
    assert int(found.map().argmax()) == 9
    assert np.isfinite(found.map()).all()


# Out of the way of predictions


@pytest.fixture
def narrow(settings: Settings, serving_with: ServingWith) -> Iterator[tuple[httpx.Client, FakeEngine]]:
    """A service that takes two explanations at a time."""
    engine = FakeEngine()
    with serving_with(settings.model_copy(update={"queue_explanations": 2}), engine) as client:
        yield client, engine
        engine.gate.set()


def test_more_explanations_than_may_wait_are_told_when_to_come_back_and_predictions_are_not(
    narrow: tuple[httpx.Client, FakeEngine], encode: Encode
) -> None:
    client, engine = narrow
    data = encode(patch(1, 1))
    engine.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.post, "/explain", files={"file": data}) for _ in range(3)]
        done, _ = wait(asked, return_when="FIRST_COMPLETED", timeout=20)
        refused = done.pop().result()
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        predicted = pool.submit(client.post, "/predict", files={"file": data})
        engine.gate.set()
        assert predicted.result(20).status_code == 200
        assert sorted(each.result(20).status_code for each in asked) == [200, 200, 503]


def test_a_prediction_overtakes_the_explanation_that_is_being_worked_on(
    client: httpx.Client, engine: FakeEngine, encode: Encode
) -> None:
    data = encode(patch(1, 1))
    engine.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        explained = pool.submit(client.post, "/explain", files={"file": data})
        until(lambda: engine.batches)
        predicted = pool.submit(client.post, "/predict", files={"file": data})
        until(lambda: 'classifier_pictures_waiting{stage="queue"} 1.0' in client.get("/metrics").text)
        engine.gate.set()
        assert predicted.result(20).status_code == explained.result(20).status_code == 200
    first, second = engine.batches[:2]
    assert first <= 8
    assert second == 1


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_an_explanation_is_as_it_is_described(client: httpx.Client, encode: Encode) -> None:
    text = client.post("/explain", files={"file": encode("red")}).text
    assert ExplanationAnswer.model_validate_json(text, strict=True).model_dump_json() == text


def test_without_a_picture_there_is_nothing_to_explain(client: httpx.Client) -> None:
    answer = client.post("/explain", files={"file": b"no picture"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
    assert client.post("/explain?fit=zoom", files={"file": b""}).json()["code"] == "invalid_parameter"
