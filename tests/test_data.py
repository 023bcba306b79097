import hashlib
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cifar
import numpy as np
import pytest

from training import data
from training.data import META, TEST_BATCH, TRAIN_BATCHES, Dataset, load_cifar10, unpickle
from training.errors import DataError


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory, cifar_contents: dict[str, bytes]) -> Path:
    return cifar.write_folder(tmp_path_factory.mktemp("data"), cifar_contents)


@pytest.fixture
def folder(tmp_path: Path, extracted: Path) -> Path:
    """An extracted folder of the test's own."""
    return cifar.link_folder(tmp_path, extracted)


@pytest.fixture(scope="module")
def from_archive(cifar_archive: Path) -> Dataset:
    return load_cifar10(cifar_archive)


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_an_archive_gives_pictures_and_labels(from_archive: Dataset) -> None:
    assert from_archive.class_names == tuple(cifar.NAMES)
    assert from_archive.train_images.shape == (50_000, 32, 32, 3)
    assert from_archive.train_images.dtype == np.uint8
    assert from_archive.test_labels.shape == (10_000,)


def test_xz_archives_are_read_too(
    tmp_path: Path, cifar_contents: dict[str, bytes], from_archive: Dataset
) -> None:
    path = cifar.write_archive(tmp_path / "cifar.tar.xz", cifar_contents)
    assert load_cifar10(path).fingerprint() == from_archive.fingerprint()


def test_planes_become_channels(cifar_contents: dict[str, bytes], from_archive: Dataset) -> None:
    batch = pickle.loads(cifar_contents[TEST_BATCH])  # noqa: S301 - made by this test
    red_then_green = batch[b"data"][0].reshape(3, 32, 32)
    image = from_archive.test_images[0]
    assert np.array_equal(image[..., 0], red_then_green[0])
    assert np.array_equal(image[..., 1], red_then_green[1])


def test_the_folder_in_the_keras_cache_is_used_when_no_path_is_given(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_archive: Dataset
) -> None:
    cache = tmp_path / "keras" / "datasets" / "cifar-10-batches-py-target"
    cache.mkdir(parents=True)
    folder.rename(cache / folder.name)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert load_cifar10().fingerprint() == from_archive.fingerprint()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({b"data": np.zeros((10_000, 10), np.uint8)}, r"must be uint8 \(10000, 3072\)"),
        ({b"data": np.zeros((100, 3072), np.float32)}, "float32"),
        ({b"labels": [10] * 10_000}, "label 10 is not one of 0 to 9"),
        ({b"labels": [1, 2]}, "2 labels"),
    ],
)
def test_wrong_contents_are_named(
    folder: Path, cifar_contents: dict[str, bytes], change: dict[bytes, Any], words: str
) -> None:
    first = TRAIN_BATCHES[0]
    batch = pickle.loads(cifar_contents[first]) | change  # noqa: S301 - made by this test
    replace(folder / first, pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=f"{first}: .*{words}"):
        load_cifar10(folder)


def test_missing_class_names_are_named(folder: Path) -> None:
    replace(folder / META, pickle.dumps({b"label_names": None}, protocol=2))
    with pytest.raises(DataError, match="label_names"):
        load_cifar10(folder)


def test_a_truncated_archive_says_so(cifar_archive: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(cifar_archive.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"cut\.tar\.gz is not a whole"):
        load_cifar10(cut)


def test_missing_paths_and_files_say_what_to_give(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_cifar10(tmp_path / "nowhere")
    (folder / TEST_BATCH).unlink()
    with pytest.raises(DataError, match="lacks test_batch"):
        load_cifar10(folder)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {b"data": bad}])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, wrap: Any) -> None:
    target = tmp_path / "ran"
    with pytest.raises(DataError, match="no CIFAR-10 file needs"):
        unpickle(pickle.dumps(wrap(Malicious(target)), protocol=2), "data_batch_1")
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps([1]), pickle.dumps({})[:-1]])
def test_damaged_pickles_name_their_file(content: bytes) -> None:
    with pytest.raises(DataError, match="data_batch_1"):
        unpickle(content, "data_batch_1")


@pytest.fixture
def server(cifar_archive: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(cifar_archive.parent))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_the_download_is_verified_and_appears_whole(server: str, cifar_archive: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(cifar_archive.read_bytes()).hexdigest()
    path = data.download(f"{server}/cifar.tar.gz", digest, tmp_path / "cache")
    assert path.read_bytes() == cifar_archive.read_bytes()
    assert [child.name for child in path.parent.iterdir()] == ["cifar.tar.gz"]


def test_a_wrong_checksum_leaves_nothing_behind(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="SHA-256"):
        data.download(f"{server}/cifar.tar.gz", "0" * 64, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_network_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data PATH"):
        data.download("http://127.0.0.1:9/cifar.tar.gz", "0" * 64, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
