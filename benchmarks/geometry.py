"""What should become of photographs that are not square? Accuracy per fit and filter, on real ones.

    python benchmarks/geometry.py --model model/resnet18-cifar10 --photos PATH

`--photos` holds a folder of photographs per class, by the names of the classes; what lies in other folders
counts as none of them, and shows how well the OOD score tells it apart (area under the ROC curve). The same
photographs go through every way, so ways are compared in pairs: by those that only one of two gets right.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from math import comb, sqrt
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app import colour, engines, geometry
from app.geometry import FITS, Fit
from app.repository import Repository

FILTERS: Final = tuple(
    Image.Resampling[name] for name in ("BICUBIC", "BILINEAR", "HAMMING", "BOX", "LANCZOS")
)
_Z95: Final = 1.96


@dataclass(frozen=True)
class Photo:
    """`label` is the number of its class, or -1 for none of them."""

    image: Image.Image
    label: int


@dataclass(frozen=True, eq=False)
class Measured:
    """`right` is bool [N] over the photographs of the classes."""

    fit: Fit
    resample: Image.Resampling
    right: NDArray[np.bool_]
    auroc: float

    @property
    def name(self) -> str:
        return f"{self.fit:6} {self.resample.name.lower():8}"


def photos(folder: Path, class_names: tuple[str, ...]) -> Iterator[Photo]:
    """In the order of their names, opaque but not yet resized."""
    for path in sorted(path for path in folder.glob("*/*") if path.is_file()):
        known = path.parent.name in class_names
        with Image.open(path) as image:
            label = class_names.index(path.parent.name) if known else -1
            yield Photo(colour.opaque(image).convert("RGB"), label)


def measure(
    engine: engines.Engine, pictures: list[Photo], size: tuple[int, int], fit: Fit, resample: Image.Resampling
) -> Measured:
    """Lets the model look at every photograph, made to fit in this way."""
    pixels = np.stack([np.asarray(geometry.resized(each.image, size, fit, resample)) for each in pictures])
    with ThreadPoolExecutor(engine.concurrency) as threads:
        prediction = engines.predict_all(engine, pixels, threads)
    best, scores = prediction.probabilities.argmax(axis=1), prediction.ood_score
    labels = np.array([each.label for each in pictures])
    known = labels >= 0
    return Measured(fit, resample, best[known] == labels[known], auroc(scores[~known], scores[known]))


def auroc(larger: NDArray[np.float32], smaller: NDArray[np.float32]) -> float:
    """How often a value of `larger` is above one of `smaller`; 0.5 is chance, NaN where either is empty."""
    if not len(larger) or not len(smaller):
        return float("nan")
    above = larger[:, None] > smaller[None, :]
    return float((above + 0.5 * (larger[:, None] == smaller[None, :])).mean())


def interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion, after Wilson 1927."""
    share, spread = successes / trials, _Z95**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = _Z95 * sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return centre - half, centre + half


def sign_test(one: int, other: int) -> float:
    """How probable it is that two equally good ways differ at least this much (two-sided, exact)."""
    trials = one + other
    tail = sum(comb(trials, wins) for wins in range(max(one, other), trials + 1))
    return min(1.0, float(2 * tail / 2**trials))


def report(measured: list[Measured]) -> Iterator[str]:
    """The table, each way compared with the first."""
    first = measured[0]
    yield f"{'fit':6} {'filter':8} accuracy  95 % interval   OOD AUROC   only this : only the first   p"
    for each in measured:
        low, high = interval(int(each.right.sum()), len(each.right))
        won, lost = int((each.right & ~first.right).sum()), int((first.right & ~each.right).sum())
        yield (
            f"{each.name} {each.right.mean():7.1%}  {low:6.1%} - {high:6.1%}   {each.auroc:8.3f}   "
            f"{won:9} : {lost:<4}   {sign_test(won, lost):.3f}"
        )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a model: <root>/<name>")
    parser.add_argument("--version", type=int, help="its version (default: the newest)")
    parser.add_argument("--engine", default="auto", help="what runs the model (default: auto)")
    parser.add_argument("--photos", type=Path, required=True, help="folder with a folder per class")
    options = parser.parse_args()
    version = Repository(options.model.parent).open(options.model.name, options.version)
    pictures = list(photos(options.photos, version.manifest.class_names))
    shape = version.manifest.input
    engine = engines.choose(options.engine, version.path)
    known = sum(each.label >= 0 for each in pictures)
    print(f"{version} on {engine.name} ({engine.precision}); {known} photographs of the classes,")
    print(f"{len(pictures) - known} of other things")
    ways = product(FITS, FILTERS)
    size = (shape.height, shape.width)
    for line in report([measure(engine, pictures, size, *way) for way in ways]):
        print(line)


if __name__ == "__main__":
    main()
