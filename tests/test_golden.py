import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeEngine, strongest_colour
from numpy.typing import NDArray

from app import golden
from app.engines import Prediction
from app.errors import GoldenError
from app.golden import Golden


@pytest.fixture
def recorded() -> Golden:
    return golden.record(FakeEngine())


class BentEngine(FakeEngine):
    """Gives what `bend` makes of the right answer."""

    def __init__(self, bend: Callable[[Prediction], Prediction]) -> None:
        super().__init__()
        self._bend = bend

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        return self._bend(strongest_colour(images))


def test_the_pictures_are_the_same_every_time_and_differ_by_seed() -> None:
    assert list(golden.pictures(seed=1)) == list(golden.pictures(seed=1))
    assert list(golden.pictures(seed=1)) != list(golden.pictures(seed=2))


def test_the_pictures_cover_what_a_decoder_can_get_wrong() -> None:
    names = {file.name for file in golden.pictures()}
    assert {"alpha.png", "turned.jpg", "shapes.jpg", "large.jpg", "grey-16-bit.png", "palette.gif"} <= names


def test_what_was_recorded_is_replayed_without_complaint(recorded: Golden, tmp_path: Path) -> None:
    golden.write(recorded, tmp_path / "golden.npz")
    golden.replay(golden.read(tmp_path / "golden.npz"), FakeEngine(), tolerance=1e-6)


def test_the_file_is_small_and_holds_no_code(recorded: Golden, tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    golden.write(recorded, path)
    assert path.stat().st_size < 100_000
    with np.load(path, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_pictures_are_recorded_in_the_size_of_the_model() -> None:
    assert golden.record(FakeEngine(), size=(20, 24)).pixels.shape[1:] == (20, 24, 3)


def test_one_level_in_one_pixel_of_a_lossless_picture_is_a_mismatch(recorded: Golden) -> None:
    index = next(index for index, file in enumerate(recorded.files) if file.lossless)
    recorded.pixels[index, 0, 0, 0] ^= 1
    with pytest.raises(GoldenError, match=r"gradient\.png decodes to other pixels .* 1 levels where 0"):
        golden.replay(recorded, FakeEngine(), tolerance=1)


@pytest.mark.parametrize(("levels", "matches"), [(1, True), (2, False)])
def test_a_lossy_picture_may_be_one_level_off(recorded: Golden, levels: int, matches: bool) -> None:
    index = next(index for index, file in enumerate(recorded.files) if not file.lossless)
    pixel = recorded.pixels[index, 3, 3]
    pixel[:] = np.where(pixel > 100, pixel - levels, pixel + levels)
    if matches:
        golden.replay(recorded, FakeEngine(), tolerance=1e-3)
    else:
        with pytest.raises(GoldenError, match=r"shapes\.jpg decodes to other pixels"):
            golden.replay(recorded, FakeEngine(), tolerance=1e-3)


def test_a_golden_picture_that_no_longer_decodes_is_named(recorded: Golden) -> None:
    broken = recorded.files[0]._replace(data=recorded.files[0].data[:40])
    with pytest.raises(GoldenError, match=r"gradient\.png no longer decodes"):
        golden.replay(replace(recorded, files=(broken, *recorded.files[1:])), FakeEngine(), tolerance=1)


def shifted(prediction: Prediction, by: float) -> Prediction:
    return Prediction(prediction.probabilities + np.float32(by), prediction.ood_score)


def with_nan(prediction: Prediction) -> Prediction:
    probabilities = prediction.probabilities.copy()
    probabilities[3, 1] = np.nan
    return Prediction(probabilities, prediction.ood_score)


def with_other_score(prediction: Prediction) -> Prediction:
    return Prediction(prediction.probabilities, prediction.ood_score * np.float32(1.02))


def with_a_class_too_many(prediction: Prediction) -> Prediction:
    return Prediction(np.pad(prediction.probabilities, ((0, 0), (0, 1))), prediction.ood_score)


@pytest.mark.parametrize(
    ("bend", "complaint"),
    [
        (lambda prediction: shifted(prediction, 0.02), r"\(probabilities\) .* off by 0\.02 where 0\.01"),
        (with_nan, r"\(probabilities\) .* off by nan"),
        (with_other_score, r"\(OOD score\)"),
        (with_a_class_too_many, r"shape \[9, 4\] .* \[9, 3\] was recorded"),
    ],
)
def test_other_answers_are_a_mismatch(recorded: Golden, bend: Any, complaint: str) -> None:
    with pytest.raises(GoldenError, match=complaint):
        golden.replay(recorded, BentEngine(bend), tolerance=0.01)


def test_answers_within_the_tolerance_pass(recorded: Golden) -> None:
    golden.replay(recorded, BentEngine(lambda prediction: shifted(prediction, 0.009)), tolerance=0.01)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_a_file_of_something_else_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(GoldenError, match="does not hold golden pictures"):
        golden.read(tmp_path / "golden.npz")


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match="does not hold golden pictures"):
        golden.read(tmp_path / "golden.npz")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    objects = np.array([{"encoded": 1}], dtype=object)
    np.savez(tmp_path / "golden.npz", encoded=objects, names=objects, lossless=objects, lengths=objects)
    with pytest.raises(GoldenError):
        golden.read(tmp_path / "golden.npz")


@contextmanager
def restless() -> Iterator[None]:
    """Threads change in the middle of everything, as they seldom do."""

    def pause(*_: object) -> None:
        sum(range(50))

    before = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(pause)
    gc.set_threshold(3)
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before[1])
        gc.set_threshold(*before[0])
        gc.callbacks.remove(pause)


def test_several_versions_are_read_at_the_same_time(recorded: Golden, tmp_path: Path) -> None:
    path, failed = tmp_path / "golden.npz", list[BaseException]()
    golden.write(recorded, path)

    def read() -> None:
        try:
            for _ in range(100):
                golden.read(path)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    with restless():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed
