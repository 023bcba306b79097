import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from app.engines import QUANTIZED, choose
from app.engines.openvino import MODEL
from app.errors import EngineError, EngineUnavailableError
from app.repository import Version

pytestmark = pytest.mark.timeout(300)  # the first test loads TensorFlow and quantises

LOADED = """
import sys
from pathlib import Path
from app.engines import choose
engine = choose("openvino", Path(sys.argv[1]), 1)
print(engine.precision, *{name.split(".")[0] for name, module in sys.modules.items() if module})
"""

SIGNALLED = """
import os, signal, sys
from pathlib import Path
from app.engines import choose
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
engines = [choose("openvino-float32", Path(sys.argv[1]), 1) for _ in range(2)]
while engines:
    engines.pop(0).close()
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.fixture
def folder(openvino_model: Version, tmp_path: Path) -> Path:
    """A copy of the version's folder, to harm."""
    return Path(shutil.copytree(openvino_model.path, tmp_path / "1"))


def pictures(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(5).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_it_loads_no_tensorflow_reports_to_nobody_and_writes_nothing(
    openvino_model: Version, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "error", "-c", LOADED, str(openvino_model.path)]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    precision, *modules = done.stdout.split()
    assert precision == "int8"
    assert "openvino" in modules
    assert not {"keras", "nncf", "openvino_telemetry", "tensorflow"} & set(modules)
    assert list(tmp_path.iterdir()) == []


def test_who_loaded_an_engine_hears_signals_when_it_is_gone(openvino_model: Version) -> None:
    """OpenVINO gives the thread that loads it a stack for their handlers, and takes it away again."""
    command = [sys.executable, "-c", SIGNALLED, str(openvino_model.path)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "heard\n")


@pytest.mark.parametrize("name", ["openvino-int8", "openvino-float32"])
def test_a_precision_that_was_not_published_is_unavailable_and_the_next_is_taken(
    folder: Path, name: str
) -> None:
    (folder / (QUANTIZED if name == "openvino-int8" else MODEL)).unlink()
    with pytest.raises(EngineUnavailableError, match="was published without"):
        choose(name, folder, 1)
    expected = {"bfloat16", "float32"} if name == "openvino-int8" else {"int8"}
    assert choose("auto", folder, 1).precision in expected


def test_a_version_without_any_of_its_files_says_all_that_is_missing(saved_model: Version) -> None:
    with pytest.raises(EngineUnavailableError, match=r"without int8\.xml.* without model\.xml"):
        choose("openvino", saved_model.path, 1)


def test_bfloat16_runs_only_where_the_processor_has_it(folder: Path) -> None:
    if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert choose("openvino-bfloat16", folder, 1).precision == "bfloat16"
    else:
        with pytest.raises(EngineUnavailableError, match="does not compute in bfloat16"):
            choose("openvino-bfloat16", folder, 1)


@pytest.mark.parametrize("content", [b"", b"<net></net>", b"\x00\xff"])
def test_a_damaged_file_is_a_clear_error(folder: Path, content: bytes) -> None:
    (folder / MODEL).write_bytes(content)
    with pytest.raises(EngineError, match=r"OpenVINO cannot load .*model\.xml"):
        choose("openvino-float32", folder, 1)


def test_a_file_of_another_model_is_a_clear_error(folder: Path) -> None:
    picture = ov.opset13.parameter([-1, 3], ov.Type.f32)
    ov.save_model(ov.Model([ov.opset13.relu(picture)], [picture]), folder / MODEL)
    with pytest.raises(EngineError, match=r"probabilities and ood_score are expected"):
        choose("openvino-float32", folder, 1)


def test_pictures_of_another_size_fail_and_harm_nothing(openvino_model: Version) -> None:
    engine = choose("openvino-float32", openvino_model.path, 1)
    before = engine.predict(pictures(3))
    with pytest.raises(EngineError, match=r"3 pictures of shape \[16, 32, 3\]"):
        engine.predict(pictures(3)[:, :16])
    assert np.array_equal(engine.predict(pictures(3)).probabilities, before.probabilities)


def test_answers_stay_as_they_are_when_the_next_come(openvino_model: Version) -> None:
    engine = choose("openvino-float32", openvino_model.path, 1)
    first = engine.predict(pictures(4))
    kept = first.probabilities.copy(), first.ood_score.copy()
    engine.predict(255 - pictures(4))
    assert np.array_equal(first.probabilities, kept[0])
    assert np.array_equal(first.ood_score, kept[1])


def test_pictures_that_nobody_may_write_to_are_taken(openvino_model: Version) -> None:
    engine = choose("openvino-float32", openvino_model.path, 1)
    images = pictures(6)
    expected = engine.predict(images).probabilities
    images.flags.writeable = False
    assert np.array_equal(engine.predict(images).probabilities, expected)
    assert np.array_equal(engine.predict(images[::-1]).probabilities[::-1], expected)


@pytest.mark.parametrize(("threads", "streams", "concurrency"), [(4, 0, 4), (4, 2, 2), (2, 9, 2), (12, 0, 8)])
def test_cores_are_shared_among_as_many_batches_as_is_said(
    openvino_model: Version, threads: int, streams: int, concurrency: int
) -> None:
    engine = choose("openvino-float32", openvino_model.path, threads, streams)
    assert engine.concurrency == concurrency
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert engine.predict(images).probabilities.shape == (3, 3)
    engine.close()
