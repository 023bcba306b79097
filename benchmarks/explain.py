"""What an explanation costs, whom it delays, and whether it names the parts that decided.

    python benchmarks/explain.py --model model/resnet18-cifar10 --archive cifar-10-python.tar.gz

Three measurements, in this order:

- deletion: over test pictures, how far the probability of the label falls when the most important fifth of
  the cells is blanked, against a random fifth: random cells, a block of cells somewhere, and random pixels.
  What is blanked takes the picture's mean colour, or is blurred away. Exits with 1 if the most important
  fifth takes less than three times what random cells take.
- time: explanations one after the other, over HTTP, nothing else to do.
- delay: predictions one after the other, over HTTP, in turn with and without explanations beside them.
"""

import argparse
import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app import importance
from app.decoding import Decoder
from app.explanation import Explainer
from app.geometry import DEFAULT_FIT
from app.metrics import Metrics
from app.model import Model
from app.serving import Serving
from app.settings import Settings
from training.data import load_cifar10
from training.evaluation import png

ROOT: Final = Path(__file__).resolve().parent.parent
REQUIRED_RATIO: Final = 3.0
RANDOM_DRAWS: Final = 8  # of each kind and picture
FILLS: Final = ("mean colour", "blurred")
KINDS: Final = ("most important fifth", "random cells", "random block", "random pixels")
BLUR: Final = 3 / 16  # of the longer side, the standard deviation of the filter
MEASUREMENTS: Final = ("deletion", "time", "delay")
HEADERS: Final = {"Content-Type": "application/octet-stream"}

Pixels = NDArray[np.uint8]


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument("--model", type=Path, required=True, metavar="PATH", help="folder of a model")
    command.add_argument("--archive", type=Path, metavar="PATH", help="CIFAR-10; found or downloaded without")
    command.add_argument(
        "--measure", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS, help="leave out the others"
    )
    command.add_argument("--train", action="store_true", help="pictures of the training set instead")
    command.add_argument("--pictures", type=int, default=200, metavar="N", help="for the deletion test")
    command.add_argument("--explanations", type=int, default=20, metavar="N", help="that are timed")
    command.add_argument("--rounds", type=int, default=5, metavar="N", help="of 2 x 100 predictions")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="picks the pictures")
    return command


def blocks(count: int, random: np.random.Generator) -> importance.Masks:
    """Masks that blank about a fifth as one rectangle somewhere."""
    masks = np.zeros((count, importance.GRID, importance.GRID), dtype=np.bool_)
    for mask in masks:
        top, left = random.integers(0, importance.GRID - 3, 2)
        mask[top : top + 4, left : left + 3] = True
        mask[top, left + 3] = True
    return masks.reshape(count, -1)


def cells(count: int, random: np.random.Generator) -> importance.Masks:
    """Masks that blank as many cells as those of the explanations, anywhere."""
    order = random.random((count, importance.CELLS)).argsort(axis=1)
    return order < importance.BLANKED


def fill(pixels: Pixels, kind: str) -> Pixels:
    """What is there instead of what is blanked: uint8 [H, W, 3]."""
    if kind == "blurred":
        blur = ImageFilter.GaussianBlur(BLUR * max(pixels.shape[:2]))
        return np.asarray(Image.fromarray(pixels).filter(blur))
    return np.broadcast_to(pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8), pixels.shape)


async def losses(
    pixels: Pixels, model: Model, explainer: Explainer, random: np.random.Generator
) -> list[list[float]]:
    """What the label loses, by fill and then by kind."""
    explanation = await explainer.explain(png(pixels), model, None, DEFAULT_FIT)
    top = np.zeros((1, importance.CELLS), dtype=np.bool_)
    top[0, np.argsort(-explanation.importance.ravel(), kind="stable")[: importance.BLANKED]] = True
    masks = np.concatenate([top, cells(RANDOM_DRAWS, random), blocks(RANDOM_DRAWS, random)])
    share = importance.BLANKED / importance.CELLS
    scattered = random.random((RANDOM_DRAWS, *pixels.shape[:2], 1)) < share
    hidden = np.concatenate([importance.hidden(masks, *pixels.shape[:2]), scattered])
    found = []
    for kind in FILLS:
        result = await model.predict(np.where(hidden, fill(pixels, kind), pixels))
        lost = explanation.probability - result.prediction.probabilities[:, explanation.class_id]
        found.append([float(lost[0]), *(float(each.mean()) for each in np.split(lost[1:], 3))])
    return found


async def deletion(options: argparse.Namespace) -> float:
    """Prints what was lost and gives the ratio that counts: that of the mean colour to random cells."""
    data = load_cifar10(options.archive)
    images = data.train_images if options.train else data.test_images
    random = np.random.default_rng(options.seed)
    chosen = images[random.choice(len(images), options.pictures, replace=False)]
    settings = Settings(model_root=options.model.resolve().parent, model_name=options.model.name)
    serving, decoder = Serving(settings, metrics=Metrics()), Decoder.configured(settings)
    await serving.start()
    explainer = Explainer(decoder, most=1)
    try:
        lost = [await losses(pixels, serving.live, explainer, random) for pixels in chosen]
    finally:
        decoder.close()
        await serving.close()
    means = np.mean(lost, axis=0)
    errors = np.std(lost, axis=0) / np.sqrt(len(lost))
    print(f"deletion, {len(lost)} {'training' if options.train else 'test'} pictures, probability lost:")
    for of_fill, of_error, name in zip(means, errors, FILLS, strict=True):
        print(f"  {name}")
        for kind, mean, error in zip(KINDS, of_fill, of_error, strict=True):
            print(f"    {kind:<22}{mean:.3f} +- {error:.3f}   ratio {of_fill[0] / mean:.2f}", flush=True)
    return float(means[0, 0] / means[0, 1])


@contextmanager
def service(model: Path) -> Iterator[int]:
    """A ready service's port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    where = ["--model-root", str(model.resolve().parent), "--model-name", model.name, "--port", str(port)]
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and options
        [sys.executable, "-m", "app", *where, "--log-level", "error", "--drain-s", "0"], cwd=ROOT
    )
    try:
        while not is_ready(port):
            if process.poll() is not None:
                raise SystemExit("The service did not start.")
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait()


def is_ready(port: int) -> bool:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
    except OSError:
        return False


def timed(connection: http.client.HTTPConnection, path: str, picture: bytes) -> float:
    """Milliseconds until the answer is read."""
    began = time.perf_counter()
    connection.request("POST", path, picture, HEADERS)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path} answered {answer.status}: {json.loads(body)['detail']}")
    return 1000 * (time.perf_counter() - began)


@contextmanager
def explaining(port: int, picture: bytes, clients: int, done: list[float]) -> Iterator[None]:
    """Clients that ask for one explanation after the other meanwhile."""
    end = threading.Event()

    def ask() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            while not end.is_set():
                done.append(timed(connection, "/explain", picture))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def described(taken_ms: list[float]) -> str:
    shares = np.percentile(taken_ms, (50, 95, 99))
    return "  ".join(f"p{at} {value:.1f} ms" for at, value in zip((50, 95, 99), shares, strict=True))


def delay(port: int, picture: bytes, rounds: int) -> None:
    """Predictions with a pause between them, as a single user's, and without, as those of a busy client."""
    for pause_s in (0.0, 0.05):
        taken_ms: dict[bool, list[float]] = {False: [], True: []}
        explained: list[float] = []
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            for _ in range(rounds):
                for beside in (False, True):
                    with explaining(port, picture, 2 * beside, explained):
                        for _ in range(100):
                            time.sleep(pause_s)
                            taken_ms[beside].append(timed(connection, "/predict", picture))
        print(f"delay, predictions one after the other, {1000 * pause_s:.0f} ms apart:")
        print(f"  alone              {described(taken_ms[False])}")
        print(f"  with explanations  {described(taken_ms[True])}   ({len(explained)} explained meanwhile)")


def duration(port: int, picture: bytes, explanations: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        timed(connection, "/explain", picture)
        taken_ms = [timed(connection, "/explain", picture) for _ in range(explanations)]
    print(f"time, {explanations} explanations one after the other: {described(taken_ms)}")


def main() -> int:
    options = parser().parse_args()
    ratio = asyncio.run(deletion(options)) if "deletion" in options.measure else REQUIRED_RATIO
    picture = (ROOT / "examples/cat.jpg").read_bytes()
    if {"time", "delay"} & set(options.measure):
        with service(options.model) as port:
            if "time" in options.measure:
                duration(port, picture, options.explanations)
            if "delay" in options.measure:
                delay(port, picture, options.rounds)
    return 0 if ratio >= REQUIRED_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
