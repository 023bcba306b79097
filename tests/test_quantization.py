from pathlib import Path

import numpy as np
import pytest
from conftest import Encode
from fakes import FakeEngine, strongest_colour
from numpy.typing import NDArray

from app import golden
from app.engines import QUANTIZED, Prediction, choose
from app.engines.openvino import MODEL
from app.golden import Encoded, Golden
from app.repository import Version
from training.precisions import derive
from training.quantization import Comparison, HeldOut, QuantizationError, check, compare, hold_out
from training.split import Pictures

pytestmark = pytest.mark.timeout(300)  # the first test loads TensorFlow and quantises


class ForgetfulEngine(FakeEngine):
    """Takes what it ought to call blue for red."""

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        right = super().predict(images)
        kept = np.array([1, 1, 0], np.float32)
        added = np.array([0.1, 0, 0], np.float32)
        return Prediction(right.probabilities * kept + added, right.ood_score)


def colours(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Flat pictures, one strong channel each, and which it is."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    pixels = random.integers(0, 150, (count, 1, 1, 3), dtype=np.uint8)
    pixels[np.arange(count), 0, 0, labels] = 255
    return np.broadcast_to(pixels, (count, 32, 32, 3)).copy(), labels


def test_calibration_and_gate_share_no_picture() -> None:
    labels = np.arange(1000) % 10
    images = np.arange(1000, dtype=np.uint16).view(np.uint8).reshape(1000, 1, 1, 2)
    held_out = hold_out(Pictures(images, labels), 200)
    assert (len(held_out.calibration_images), len(held_out.gate_images)) == (40, 160)
    both = np.concatenate([held_out.calibration_images, held_out.gate_images])
    assert len(np.unique(both.reshape(200, 2), axis=0)) == 200
    assert np.bincount(held_out.gate_labels).tolist() == [16] * 10


def test_the_comparison_counts_what_int8_gets_wrong() -> None:
    images, labels = colours(60)
    held_out = HeldOut(images[:1], images, labels)
    blue = float(np.mean(labels == 2))
    found = compare(FakeEngine(), ForgetfulEngine(), held_out)
    assert found.pictures == 60
    assert found.accuracy_drop == pytest.approx(blue)
    assert found.agreement == pytest.approx(1 - blue)
    assert compare(FakeEngine(), FakeEngine(), held_out) == Comparison(60, 0.0, 1.0)


@pytest.mark.parametrize(
    ("drop", "agreement", "complaint"),
    [
        (0.001, 0.99, None),
        (-0.02, 1.0, None),
        (0.0015, 0.999, r"falls by 0\.15 points; 0\.10 is allowed"),
        (0.0, 0.9895, r"98\.95% of 2,000 held-out pictures get the same class .* 99% is asked for"),
    ],
)
def test_the_gate_opens_up_to_its_limits_and_no_further(
    drop: float, agreement: float, complaint: str | None
) -> None:
    comparison = Comparison(2000, drop, agreement)
    if complaint is None:
        check(comparison)
    else:
        with pytest.raises(QuantizationError, match=complaint):
            check(comparison)


@pytest.fixture
def folder(saved_model: Version, tmp_path: Path) -> Path:
    """A SavedModel, not yet published."""
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((saved_model.path / name).read_bytes())
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # of NNCF's and TensorFlow's own making
def test_both_precisions_are_derived_and_give_what_the_saved_model_gives(
    folder: Path, saved_model: Version
) -> None:
    recorded, said = golden.read(saved_model.path / "golden.npz"), list[str]()
    found = derive(folder, recorded, hold_out(Pictures(*colours(200))), said.append)
    assert said == []
    assert found["float32"] == {"published": True}
    assert found["int8"] == {
        "published": True,
        "calibration_pictures": 40,
        "float_sums": False,
        "pictures": 160,
        "accuracy_drop": 0.0,
        "agreement": 1.0,
    }
    for name, tolerance in (("openvino-float32", 1e-4), ("openvino-int8", 0.05)):
        images, _ = colours(20, seed=1)
        assert choose(name, folder, 1).predict(images).probabilities == pytest.approx(
            choose("tensorflow", folder, 1).predict(images).probabilities, abs=tolerance
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("recorded_for", "reason"), [("black", "held-out pictures"), ("white", "the golden picture white.png")]
)
def test_int8_that_was_calibrated_badly_is_left_out_and_float32_stays(
    folder: Path, encode: Encode, recorded_for: str, reason: str
) -> None:
    black = np.zeros((10, 32, 32, 3), np.uint8)
    pixels = black[:1] if recorded_for == "black" else 255 - black[:1]
    file = Encoded(f"{recorded_for}.png", encode(recorded_for), lossless=True)
    said: list[str] = []
    recorded = Golden((file,), pixels, strongest_colour(pixels))
    found = derive(folder, recorded, HeldOut(black, *colours(100)), said.append)
    assert found["float32"] == {"published": True}
    assert found["int8"]["published"] is False
    assert reason in found["int8"]["reason"]
    assert reason in said[0]
    assert said[1:] == [f"openvino int8 is not published: {found['int8']['reason']}"]
    assert sorted(path.name for path in (folder / MODEL).parent.iterdir()) == ["model.bin", "model.xml"]


@pytest.mark.filterwarnings("ignore")
def test_whatever_goes_wrong_the_saved_model_can_still_be_published(
    tmp_path: Path, saved_model: Version
) -> None:
    said: list[str] = []
    recorded = golden.read(saved_model.path / "golden.npz")
    found = derive(tmp_path, recorded, hold_out(Pictures(*colours(20))), said.append)
    assert [found[precision]["published"] for precision in ("float32", "int8")] == [False, False]
    assert all(found[precision]["reason"] for precision in ("float32", "int8"))
    assert len(said) == 2
    assert not list(tmp_path.rglob("*.xml"))
    assert not (tmp_path / QUANTIZED).exists()
