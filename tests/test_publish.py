"""A tiny network, published twice from the same training with other test pictures."""

import dataclasses
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import cifar
import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from app.engines import choose
from app.repository import Repository, Version
from training import evaluate
from training.assessment import Extent
from training.data import Dataset
from training.errors import DataError
from training.evaluate import held_out, main
from training.evaluation import png, predict
from training.folders import load_folder
from training.publish import Provenance, publish
from training.recipe import QUICK
from training.split import Pictures, Split

pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

NAMES = ("red", "green", "blue")
RECIPE = dataclasses.replace(QUICK, held_out=300, standardize=False)


class Published(NamedTuple):
    version: Version
    other: Version
    split: Split


def noisy_colours(count: int, seed: int) -> Pictures:
    """Noise in which the channel of the label is a little stronger, so that nobody can be sure."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    strength = 100 + random.normal(0, 6, (count, 1, 1, 3))
    strength[np.arange(count), 0, 0, labels] += 10
    images = np.clip(strength + random.normal(0, 20, (count, 32, 32, 3)), 0, 255)
    return Pictures(images.astype(np.uint8), labels)


def overconfident_network() -> keras.Model:
    """Compares the channels' means, and is three times too sure of what it finds."""
    pixels = keras.Input((32, 32, 3), name="pixels")
    x = keras.layers.Conv2D(8, 1, name="stem_conv")(pixels)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    network = keras.Model(pixels, keras.layers.Dense(3, name="logits")(x))
    kernel = np.concatenate([np.eye(3), -np.eye(3), np.zeros((3, 2))], axis=1)
    head = np.concatenate([np.eye(3), -np.eye(3), np.zeros((2, 3))])
    network.set_weights([kernel.reshape(1, 1, 3, 8), np.zeros(8), 105.0 * head, np.zeros(3)])
    return network


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    train = noisy_colours(900, seed=0)
    split = Split.of(train, RECIPE.held_out, RECIPE.seed)
    repository = Repository(tmp_path_factory.mktemp("published"))
    keras.utils.set_random_seed(0)
    network = overconfident_network()
    versions = []
    for seed in (1, 2):
        test = noisy_colours(200, seed)
        wrong = (test.labels + seed - 1) % 3  # the second time, nothing is as it was
        data = Dataset(NAMES, train.images, train.labels, test.images, wrong, name="colours")
        provenance = Provenance(RECIPE, {}, data, split, 1.0, 1.0, bfloat16=False, resumed=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            versions.append(publish(network, provenance, repository, "colours", Extent(disturbed=8)).version)
    return Published(versions[0], versions[1], split)


def measured(version: Version, metric: str) -> dict[tuple[str, str], float]:
    found = version.manifest.measurements
    clean = (each for each in found if each.data == "colours test" and each.metric == metric)
    return {(each.engine, each.precision): each.value for each in clean}


def test_the_test_pictures_decide_nothing(published: Published) -> None:
    """Whatever they are, the same network comes out with the same calibration; the figures alone differ."""
    one, other = published.version.manifest, published.other.manifest
    assert one.calibration == other.calibration
    assert one.golden_tolerance == other.golden_tolerance
    assert _without_fingerprint(one.lineage) == _without_fingerprint(other.lineage)
    assert _weights(published.version) == _weights(published.other)
    assert measured(published.version, "accuracy") != measured(published.other, "accuracy")
    images = published.split.train.images[:16]
    for engine in ("tensorflow", "openvino"):
        answers = [
            choose(engine, version.path, 1).predict(images)
            for version in (published.version, published.other)
        ]
        assert np.array_equal(answers[0].probabilities, answers[1].probabilities)
        assert np.array_equal(answers[0].ood_score, answers[1].ood_score)


def _without_fingerprint(lineage: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in lineage["data"].items() if key != "fingerprint_sha256"}
    return lineage | {"data": kept}


def _weights(version: Version) -> dict[str, str]:
    files = version.manifest.files.items()
    return {name: file.sha256 for name, file in files if Path(name).suffix == ".bin" or "variables" in name}


def test_the_temperature_is_fitted_on_held_out_pictures_and_is_inside_the_graph(published: Published) -> None:
    calibration = published.version.manifest.calibration
    assert 1.5 < calibration.temperature < 6
    for engine in measured(published.version, "ece"):
        before, after = (measured(published.version, name)[engine] for name in ("nll_uncalibrated", "nll"))
        assert after < before
    mean = published.split.train.images.mean(axis=(1, 2)) / 255.0
    answers = choose("tensorflow", published.version.path, 1).predict(published.split.train.images)
    logits = 210.0 * mean / calibration.temperature
    assert np.allclose(_centred(np.log(answers.probabilities)), _centred(logits), atol=0.05)


def _centred(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def test_sets_and_score_keep_their_promise_on_the_engine_that_serves(published: Published) -> None:
    calibration = published.version.manifest.calibration
    assert [each.coverage for each in calibration.conformal_thresholds] == [0.9, 0.95, 0.99]
    assert calibration.ood_threshold is not None
    engine = choose("auto", published.version.path, 1)
    fresh = noisy_colours(600, seed=9)
    prediction = predict(engine, fresh.images)
    assert np.mean(prediction.ood_score <= calibration.ood_threshold) == pytest.approx(0.95, abs=0.05)
    for each in calibration.conformal_thresholds:
        of_truth = prediction.probabilities[np.arange(600), fresh.labels]
        assert np.mean(of_truth >= each.threshold) == pytest.approx(each.coverage, abs=0.06)
    for name in ("coverage_0.9", "set_size_0.99", "in_distribution"):
        assert measured(published.version, name)


def test_the_card_says_which_classes_are_confused_and_how_sure_it_is(
    published: Published,
) -> None:
    evaluation = published.version.manifest.evaluation
    assert evaluation is not None
    accuracy = measured(published.version, "accuracy")[evaluation.engine, evaluation.precision]
    assert sum(map(sum, evaluation.confusion)) == 200
    assert sum(row[index] for index, row in enumerate(evaluation.confusion)) == round(200 * accuracy)
    assert sum(each.pictures for each in evaluation.reliability) == 200
    confidences = [each.confidence for each in evaluation.reliability]
    assert confidences == sorted(confidences)


def test_a_published_version_is_measured_again(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = cifar.files()
    contents["batches.meta"] = pickle.dumps({b"label_names": [name.encode() for name in NAMES]}, protocol=2)
    for name in set(contents) - {"batches.meta"}:
        batch = cifar.batch(0)
        batch[b"labels"] = [label % 3 for label in batch[b"labels"]]
        contents[name] = pickle.dumps(batch, protocol=2)
    photos = tmp_path / "photos" / "other"
    photos.mkdir(parents=True)
    (photos / "black.png").write_bytes(png(np.zeros((40, 50, 3), np.uint8)))
    model, report = published.version.path.parent, tmp_path / "report.html"
    options = ["--version", "1", "--limit", "20", "--disturbed", "10", "--report", str(report)]
    places = ["--model", str(model), "--data", str(cifar.write_folder(tmp_path, contents))]
    assert main([*places, *options, "--photos", str(photos.parent)]) == 0
    said = capsys.readouterr().out
    for words in (
        "on CIFAR-10 test (20 pictures)",
        "gaussian_noise, severity 3 (10 pictures)",
        "ood_auroc",
        "in_distribution",
    ):
        assert words in said
    assert "What disturbs it" in report.read_text()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Version, Path]:
    """A version of somebody's own pictures, and their folder, which does not say what is for testing."""
    root = tmp_path_factory.mktemp("own")
    pictures = noisy_colours(120, seed=3)
    for name in NAMES:
        (root / "colours" / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(pictures.images, pictures.labels, strict=True)):
        (root / "colours" / NAMES[label] / f"{number}.png").write_bytes(png(image))
    recipe = dataclasses.replace(RECIPE, held_out=25, seed=7)
    data = load_folder(root / "colours", 32, scratch=root, seed=recipe.seed, report=print).limited(60)
    split = Split.of(Pictures(data.train_images, data.train_labels), recipe.held_out, recipe.seed)
    provenance = Provenance(recipe, {"limit": 60}, data, split, 1.0, 1.0, bfloat16=False, resumed=False)
    repository = Repository(root / "model")
    version = publish(overconfident_network(), provenance, repository, "own", Extent(disturbed=0)).version
    return version, root / "colours"


def evaluated(model: Path, report: Path, *options: str) -> int:
    return main(["--model", str(model), "--disturbed", "0", "--report", str(report), *options])


def test_a_version_of_own_pictures_is_measured_on_those_that_its_training_tested_it_on(
    own: tuple[Version, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version, folder = own
    assert evaluated(version.path, tmp_path / "report.html", "--data", str(folder)) == 0
    said = capsys.readouterr().out
    accuracy = {each.value for each in version.manifest.measurements if each.metric == "accuracy"}
    assert all(f"accuracy {value:.2%} on colours test (24 pictures)" in said for value in accuracy)
    assert "report of own version 1" in said
    assert evaluated(version.path, tmp_path / "none.html", "--data", str(folder), "--held-out") == 0
    assert "on colours held out (25 pictures)" in capsys.readouterr().out


def test_a_folder_that_holds_other_pictures_must_say_which_are_for_testing(
    own: tuple[Version, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version, folder = own
    other, report = tmp_path / "other", tmp_path / "report.html"
    shutil.copytree(folder, other)
    next(other.glob("red/*.png")).unlink()
    assert evaluated(version.path.parent, report, "--data", str(other)) == 2
    assert "is not exactly what own version 1 was trained on" in capsys.readouterr().err
    for part in ("train", "test"):
        shutil.copytree(folder, tmp_path / "divided" / part)
    assert evaluated(version.path.parent, report, "--data", str(tmp_path / "divided")) == 0
    assert "on divided test (120 pictures)" in capsys.readouterr().out


def test_without_its_folder_nothing_is_downloaded_for_a_version_of_own_pictures(
    own: tuple[Version, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "load_cifar10", lambda _: pytest.fail("it was asked for CIFAR-10"))
    version, _ = own
    assert main(["--model", str(version.path)]) == 2
    said = capsys.readouterr().err
    assert "own version 1 was trained on colours, not on CIFAR-10: give the folder of its pictures" in said
    assert str(version.path / "manifest.json") in said


def test_a_folder_without_versions_is_named_as_the_option_has_it(
    own: tuple[Version, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    version, folder = own
    assert main(["--model", str(folder)]) == 2
    assert f"evaluate: --model {folder} holds no published version. Name" in capsys.readouterr().err
    assert main(["--model", str(version.path), "--version", "1"]) == 2
    assert "name the folder of its model, or no --version" in capsys.readouterr().err


def test_lineage_counts_what_was_held_out(published: Published) -> None:
    data = published.version.manifest.lineage["data"]
    assert isinstance(data, dict)
    assert (data["training_pictures"], data["held_out_pictures"]) == (600, 300)


def test_what_was_held_out_is_found_again_to_choose_recipes_by(published: Published) -> None:
    train, test = noisy_colours(900, seed=0), noisy_colours(200, seed=1)
    data = Dataset(NAMES, train.images, train.labels, test.images, test.labels, name="colours")
    found, manifest = held_out(published.version.manifest, data), published.version.manifest
    assert np.array_equal(found.test_images, published.split.held_out.images)
    assert np.array_equal(found.test_labels, published.split.held_out.labels)
    assert found.test_set == "held out"
    with pytest.raises(DataError, match="was not trained on exactly these pictures"):
        held_out(manifest, data.limited(500))
    lineage: dict[str, Any] = manifest.lineage
    recipe = lineage["recipe_values"] | {"held_out": 0}
    without = manifest.model_copy(update={"lineage": lineage | {"recipe_values": recipe}})
    with pytest.raises(DataError, match="held no pictures out"):
        held_out(without, data)
