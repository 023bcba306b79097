import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import int8_networks
import numpy as np
import pytest
from fakes import CARD, FakeEngine, strongest_colour

from app import engines, golden, processor
from app.engines import Engine, winograd
from app.errors import EngineError, EngineNotInstalledError, EngineUnavailableError
from app.manifest import GOLDEN_NAME
from app.repository import Repository, Version

pytestmark = pytest.mark.timeout(300)  # the first test loads TensorFlow

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = "resnet18-cifar10"
THREADS = 2
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05, "int8": 0.05}


@pytest.fixture(scope="session")
def residual_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version whose int8 network is one of those that winograd computes, and tells the strongest colour."""
    folder = tmp_path_factory.mktemp("residual")
    int8_networks.write(int8_networks.strongest_colour(), folder)
    return folder


@pytest.fixture(params=["fake", *(name for name in engines.names() if name != engines.AUTO)])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Every engine there is, and the fake, so that the fake stays true."""
    if request.param == "fake":
        engine: Engine = FakeEngine()
    else:
        is_residual = request.param.startswith("winograd")
        given = request.getfixturevalue("residual_folder" if is_residual else "openvino_model")
        folder: Path = given if is_residual else given.path
        try:
            engine = engines.choose(request.param, folder, THREADS)
        except EngineUnavailableError as error:
            assert not winograd.is_usable() if is_residual else request.param == "openvino-bfloat16"
            pytest.skip(str(error))
    yield engine
    engine.close()


def pictures(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(7).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 3, 8, 65])
def test_any_number_of_pictures_gives_as_many_answers(engine: Engine, count: int) -> None:
    prediction = engine.predict(pictures(count))
    assert prediction.probabilities.shape == (count, len(CARD.class_names))
    assert prediction.ood_score.shape == (count,)
    assert prediction.probabilities.dtype == prediction.ood_score.dtype == np.float32
    assert prediction.probabilities.sum(axis=1) == pytest.approx(np.ones(count), abs=1e-5)
    assert np.isfinite(prediction.ood_score).all()


def test_an_answer_does_not_depend_on_its_neighbours(engine: Engine) -> None:
    images = pictures(11)
    together = engine.predict(images)
    for index in range(len(images)):
        alone = engine.predict(images[index : index + 1])
        assert alone.probabilities[0] == pytest.approx(together.probabilities[index], abs=1e-5)
        assert alone.ood_score[0] == pytest.approx(together.ood_score[index], abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, 7, 33])
def test_pictures_shared_out_among_threads_get_the_same_answers(engine: Engine, count: int) -> None:
    images = pictures(count)
    expected = engine.predict(images)
    with ThreadPoolExecutor(engine.concurrency) as threads:
        shared = engines.predict_all(engine, images, threads)
    assert shared.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert shared.ood_score == pytest.approx(expected.ood_score, abs=1e-4)


def test_as_many_threads_as_it_allows_may_ask_it_at_the_same_time(engine: Engine) -> None:
    requests = [pictures(count) for count in (1, 1, 3, 8, 1, 2, 11, 1) * 4]
    with ThreadPoolExecutor(engine.concurrency + engine.ahead) as threads:
        answers = list(threads.map(engine.predict, requests))
    for images, answer in zip(requests, answers, strict=True):
        assert answer.probabilities == pytest.approx(engine.predict(images).probabilities, abs=1e-5)


def test_pixels_may_lie_in_memory_in_any_way(engine: Engine) -> None:
    """Those of a decoded picture are not to be written to, and a slice has gaps."""
    images = pictures(6)[::2]
    expected = engine.predict(images.copy())
    images.setflags(write=False)
    for given in (images, np.asfortranarray(images)):
        assert engine.predict(given).probabilities == pytest.approx(expected.probabilities, abs=1e-6)


def test_the_answers_are_right(engine: Engine) -> None:
    images, expected = pictures(5), strongest_colour(pictures(5))
    prediction = engine.predict(images)
    tolerance = TOLERANCE[engine.precision]
    assert prediction.probabilities == pytest.approx(expected.probabilities, abs=tolerance)
    if engine.name != "winograd":  # whose score is a distance; tests/test_winograd_engine.py has it
        assert prediction.ood_score == pytest.approx(expected.ood_score, abs=20 * tolerance)


def test_an_engine_says_what_it_is_and_which_batches_it_runs(engine: Engine) -> None:
    assert engine.name
    assert engine.precision in {"float32", "bfloat16", "int8"}
    assert list(engine.batch_sizes) == sorted(set(engine.batch_sizes))
    assert engine.batch_sizes[0] == 1
    assert 1 <= engine.concurrency <= THREADS
    assert engine.ahead >= 0


def test_a_closed_engine_refuses_instead_of_crashing(engine: Engine) -> None:
    engine.close()
    with pytest.raises(EngineError):
        engine.predict(pictures(1))


def test_an_unknown_engine_is_refused_with_the_ones_there_are(saved_model: Version) -> None:
    with pytest.raises(
        EngineError, match=r"'tensorfolw'; choose one of: auto, openvino, winograd, tensorflow"
    ):
        engines.choose("tensorfolw", saved_model.path)


def test_auto_takes_the_fastest_engine_that_the_version_was_published_for(
    saved_model: Version, openvino_model: Version
) -> None:
    assert engines.choose(engines.AUTO, saved_model.path, 1).name == "tensorflow"
    fastest = engines.choose(engines.AUTO, openvino_model.path, 1)
    assert (fastest.name, fastest.precision) == ("openvino", "int8")


VNNI = frozenset({"avx2", "fma", "avx_vnni"})
AVX2_ALONE = frozenset({"avx2", "fma"})
PRECISIONS = ("openvino-int8", "openvino-bfloat16", "openvino-float32")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (AVX2_ALONE, ("winograd-int8", *PRECISIONS, "tensorflow")),
        (AVX2_ALONE | {"avx", "vaes"}, ("winograd-int8", *PRECISIONS, "tensorflow")),
        (VNNI, (*PRECISIONS, "winograd-int8", "tensorflow")),
        (AVX2_ALONE | {"avx512f", "avx512bw"}, (*PRECISIONS, "winograd-int8", "tensorflow")),
        (AVX2_ALONE | {"avx512f", "avx512_vnni"}, (*PRECISIONS, "winograd-int8", "tensorflow")),
        (frozenset({"sse4_2"}), (*PRECISIONS, "winograd-int8", "tensorflow")),
        (frozenset(), (*PRECISIONS, "winograd-int8", "tensorflow")),
    ],
)
def test_a_name_stands_for_its_precisions_in_order_of_speed(
    flags: frozenset[str], expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With AVX2 alone, the one that was made for it comes first; elsewhere OpenVINO is faster."""
    monkeypatch.setattr(processor, "flags", lambda: flags)
    assert engines.candidates(engines.AUTO) == expected
    assert engines.candidates("openvino") == PRECISIONS
    assert engines.candidates("openvino-float32") == ("openvino-float32",)
    assert engines.candidates("winograd") == engines.candidates("winograd-int8") == ("winograd-int8",)


def test_what_may_be_asked_for_is_every_engine_and_what_stands_for_several() -> None:
    groups = ("auto", "openvino", "winograd", "tensorflow")
    assert engines.names() == [*groups, *PRECISIONS, "winograd-int8"]


@pytest.mark.parametrize(("flags", "expected"), [(AVX2_ALONE, "winograd"), (VNNI, "openvino")])
def test_auto_takes_the_one_that_is_fastest_on_this_processor(
    residual_folder: Path, flags: frozenset[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not winograd.is_usable():
        pytest.skip("winograd was not compiled, or is not for this processor")
    monkeypatch.setattr(processor, "flags", lambda: flags)
    fastest = engines.choose(engines.AUTO, residual_folder, 1)
    assert (fastest.name, fastest.precision) == (expected, "int8")
    fastest.close()


def test_a_folder_without_a_saved_model_is_a_clear_error(saved_model: Version) -> None:
    with pytest.raises(EngineError, match="cannot load the SavedModel in"):
        engines.choose("tensorflow", saved_model.path / "variables")


def test_stock_tensorflow_loads_what_ships_and_gives_what_was_recorded() -> None:
    """With nothing of ours: what TensorFlow Serving does with the same folder."""
    if not Repository(ROOT / "model").versions(SHIPPED):
        pytest.skip("no version of the model that ships is published in this checkout")
    import tensorflow as tf

    version = Repository(ROOT / "model").open(SHIPPED)
    recorded = golden.read(version.path / GOLDEN_NAME)
    model = tf.saved_model.load(str(version.path))
    serve = model.signatures["serving_default"]
    ((name, spec),) = serve.structured_input_signature[1].items()
    assert (name, spec.dtype, spec.shape.as_list()) == ("images", tf.uint8, [None, 32, 32, 3])
    answer = serve(images=tf.constant(recorded.pixels))
    assert list(answer) == ["probabilities"]
    off = np.abs(answer["probabilities"].numpy() - recorded.prediction.probabilities).max()
    assert off <= version.manifest.golden_tolerance["float32"]


@pytest.fixture
def counting_model(tmp_path: Path) -> Path:
    """A SavedModel that gives the number of pictures that it got as the score of each."""
    import tensorflow as tf

    def scored(images: Any) -> dict[str, Any]:
        count = tf.shape(images)[0]
        score = tf.fill([count], tf.cast(count, tf.float32))
        return {"probabilities": tf.ones([count, 1]), "ood_score": score}

    images = tf.TensorSpec([None, 32, 32, 3], tf.uint8, name="images")
    signature = tf.function(scored).get_concrete_function(images)
    tf.saved_model.save(tf.Module(), str(tmp_path), signatures={"scored": signature})
    return tmp_path


def test_tensorflow_sees_few_sizes_however_many_pictures_come(counting_model: Path) -> None:
    """It keeps memory for every shape it has ever seen."""
    engine = engines.choose("tensorflow", counting_model, THREADS)
    seen = {float(size) for count in range(1, 71) for size in engine.predict(pictures(count)).ood_score}
    assert seen == set(engine.batch_sizes)
    engine.close()


def test_a_package_that_is_missing_is_named_with_what_to_do(
    saved_model: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "app.engines.openvino", raising=False)
    with pytest.raises(EngineNotInstalledError, match=r"openvino needs a package .*: openvino\. Install"):
        engines.choose("openvino-int8", saved_model.path)


def test_what_takes_long_to_import_is_not_imported_ahead() -> None:
    assert engines.import_quickly("auto")
    assert engines.import_quickly("openvino-float32")
    assert engines.import_quickly("winograd")
    assert not engines.import_quickly("tensorflow")
    with pytest.raises(EngineError, match="no engine 'abacus'"):
        engines.import_quickly("abacus")


IMPORTED = """
import sys
from app import engines, processor
processor.flags = lambda: frozenset(sys.argv[1:])
print(engines.import_quickly("auto"), "app.engines.winograd" in sys.modules, "openvino" in sys.modules)
"""


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (AVX2_ALONE, "True True False"),
        (VNNI, "True False True"),
        (frozenset({"avx2"}), "True True True"),  # it is first there and cannot be used
    ],
)
def test_ahead_is_imported_what_will_be_taken_here_and_nothing_else(
    flags: frozenset[str], expected: str
) -> None:
    """A server on winograd never loads OpenVINO, which takes memory and time."""
    if not winograd.is_usable():
        pytest.skip("winograd was not compiled, or is not for this processor")
    command = [sys.executable, "-c", IMPORTED, *sorted(flags)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == expected
