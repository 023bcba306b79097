import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import cifar
import httpx2 as httpx
import hypothesis
import numpy as np
import pytest
import uvicorn
from fakes import CARD, MODEL, SHARPNESS, FakeEngine, publish, publish_calibrated, publish_fake
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image

from app.engines import Engine
from app.main import create_app
from app.manifest import FILE_NAME, GOLDEN_NAME
from app.repository import Repository, Version
from app.settings import Settings

Encode = Callable[..., bytes]

# The same examples in every run, and none that fails because the machine was busy.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that may take long come first, so that no worker is left alone with one of them at the end."""
    _tell_apart(items)
    allowed: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        allowed[item.path] = max(allowed.get(item.path, 0.0), mark.args[0] if mark else 0.0)
    items.sort(key=lambda item: -allowed[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """How a process of tests died would be lost otherwise."""
    if error:
        with suppress(subprocess.TimeoutExpired):
            code = node.gateway._io.popen.wait(timeout=5)
            print(f"\nThe process {node.gateway.id} of tests ended with {code}.", file=sys.stderr)


def _tell_apart(items: list[pytest.Item]) -> None:
    """Workers know tests by ids and run one of those that share one; schemathesis only names its own."""
    for item in items:
        _, bracket, operation = item.name.partition("[")
        if bracket and item.id.params is None:
            item._id = item.id.with_params(operation.removesuffix("]"))
    ids = Counter(item.nodeid for item in items)
    if shared := [each for each, count in ids.items() if count > 1]:
        raise pytest.UsageError(f"{shared[0]} is the id of {ids[shared[0]]} tests, of which one would run.")


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Encodes a picture of one colour, or any image, in any format."""

    def encoded(picture: str | Image.Image = "red", form: str = "PNG", **options: Any) -> bytes:
        image = Image.new("RGB", (48, 40), picture) if isinstance(picture, str) else picture
        stream = BytesIO()
        image.save(stream, form, **options)
        return stream.getvalue()

    return encoded


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Holds version 1 of a model for the fake engine."""
    repository = Repository(tmp_path / "model")
    publish_fake(repository)
    return repository


@pytest.fixture
def settings(repository: Repository) -> Settings:
    return Settings(model_root=repository.root, model_name=MODEL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def reachable(app: FastAPI) -> Iterator[httpx.Client]:
    """An application behind a real socket, in a thread; it may still be loading its model."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # It is plain HTTP, and reading the system's certificates would take longer than most tests.
        with httpx.Client(base_url=url, timeout=20, verify=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serve(settings: Settings, engine: Engine) -> Iterator[httpx.Client]:
    """The whole application with this engine in it, ready."""
    with reachable(create_app(settings, lambda *_: engine)) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        yield client


@pytest.fixture
def serving_with() -> Callable[[Settings, Engine], AbstractContextManager[httpx.Client]]:
    """Starts a service for settings of the test's own."""
    return serve


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, FakeEngine]]:
    repository, engine = Repository(tmp_path_factory.mktemp("shared")), FakeEngine()
    publish_fake(repository)
    with serve(Settings(model_root=repository.root, model_name=MODEL), engine) as client:
        yield client, engine


@pytest.fixture
def client(shared_service: tuple[httpx.Client, FakeEngine]) -> httpx.Client:
    """A client of a service with default settings, which all tests share."""
    return shared_service[0]


@pytest.fixture
def engine(shared_service: tuple[httpx.Client, FakeEngine]) -> Iterator[FakeEngine]:
    """The engine of that service, as good as new before and after."""
    engine = shared_service[1]
    engine.batches.clear()
    yield engine
    engine.gate.set()
    engine.fails_on = lambda _: False


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service whose model has a threshold for everything."""
    repository = Repository(tmp_path_factory.mktemp("calibrated"))
    publish_calibrated(repository)
    with serve(Settings(model_root=repository.root, model_name=MODEL), FakeEngine()) as client:
        yield client


@pytest.fixture(scope="session")
def cifar_contents() -> dict[str, bytes]:
    """The files of a data set in the form of CIFAR-10, with made-up pictures."""
    return cifar.files()


@pytest.fixture(scope="session")
def cifar_archive(tmp_path_factory: pytest.TempPathFactory, cifar_contents: dict[str, bytes]) -> Path:
    return cifar.write_archive(tmp_path_factory.mktemp("archive") / "cifar.tar.gz", cifar_contents)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A tiny TensorFlow SavedModel with both signatures, published as version 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from app.engines.tensorflow import TensorFlowEngine

        folder = tmp_path_factory.mktemp("exported")
        export_strongest_colour(folder)
        engine = TensorFlowEngine(folder, threads=1)

    def fill(staging: Path) -> None:
        for path in (path for path in folder.rglob("*") if path.is_file()):
            target = staging / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())

    return publish(Repository(tmp_path_factory.mktemp("tensorflow") / "model"), engine, fill)


@pytest.fixture(scope="session")
def openvino_model(saved_model: Version, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The same with OpenVINO's files beside the SavedModel, in every precision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from app.engines.tensorflow import TensorFlowEngine
        from training.conversion import convert
        from training.quantization import quantize

        def fill(folder: Path) -> None:
            unpublished = shutil.ignore_patterns(FILE_NAME, GOLDEN_NAME)
            shutil.copytree(saved_model.path, folder, ignore=unpublished, dirs_exist_ok=True)
            convert(folder)
            quantize(folder, saturated_colours(32))

        repository = Repository(tmp_path_factory.mktemp("openvino") / "model")
        card = CARD.model_copy(update={"golden_tolerance": {"float32": 1e-3, "bfloat16": 0.05, "int8": 0.05}})
        return publish(repository, TensorFlowEngine(saved_model.path, threads=1), fill, card)


def saturated_colours(count: int) -> NDArray[np.uint8]:
    """Flat pictures uint8 [count, 32, 32, 3], each with a channel at 255."""
    colours = np.random.default_rng(3).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    colours[np.arange(count), 0, 0, np.arange(count) % 3] = 255
    return np.broadcast_to(colours, (count, 32, 32, 3)).copy()


def export_strongest_colour(folder: Path) -> None:
    """Writes what `fakes.strongest_colour` computes as a SavedModel."""
    import tensorflow as tf

    module = tf.Module()
    same = np.eye(3, dtype=np.float32)[np.newaxis, np.newaxis]
    module.kernels = [tf.Variable(same / 255), tf.Variable(same * SHARPNESS)]

    def logits(images: Any) -> Any:
        x = tf.cast(images, tf.float32)
        for kernel in module.kernels:
            x = tf.nn.conv2d(x, kernel, 1, "SAME")
        return tf.reduce_mean(x, axis=(1, 2))

    def serving_default(images: Any) -> dict[str, Any]:
        return {"probabilities": tf.nn.softmax(logits(images))}

    def scored(images: Any) -> dict[str, Any]:
        energy = -tf.reduce_logsumexp(logits(images), axis=1)
        return serving_default(images) | {"ood_score": energy}

    images = tf.TensorSpec([None, 32, 32, 3], tf.uint8, name="images")
    signatures = {
        function.__name__: tf.function(function).get_concrete_function(images)
        for function in (serving_default, scored)
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)
