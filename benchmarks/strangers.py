"""How many photographs of other things pass as one of the classes, and what sets of classes are worth.

    python benchmarks/strangers.py --model model/resnet18-cifar10/2 --photos photos

`photos` has a folder per class, and one, `other`, of things that are none of them. Photographs go through the
service's decoder and engine. Shares come with Wilson's 95 % interval.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from app import imaging, manifest
from app.engines import AUTO, Engine, Prediction, choose, predict_all
from app.estimation import proportion
from app.manifest import FILE_NAME
from training.calibration import label_sets

OTHER: Final = "other"
CONFIDENCES: Final = (0.5, 0.8, 0.9, 0.95, 0.99)
FALSE_ALARMS: Final = 0.05


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument("--model", type=Path, required=True, metavar="PATH", help="folder of a version")
    command.add_argument("--photos", type=Path, required=True, metavar="PATH", help="folders of photographs")
    command.add_argument("--engine", default=AUTO, metavar="NAME", help="what runs the model")
    return command


def predicted(folder: Path, engine: Engine, size: tuple[int, int]) -> Prediction:
    """For every file of a folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    pixels = np.stack([imaging.decode(path.read_bytes(), size=size).pixels for path in files])
    with ThreadPoolExecutor(engine.concurrency) as threads:
        return predict_all(engine, pixels, threads)


def share(successes: int, trials: int) -> str:
    interval = proportion(successes, trials)
    return f"{successes} of {trials}, {interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def main() -> int:
    options = parser().parse_args()
    stated = manifest.read(options.model / FILE_NAME)
    size = stated.input.height, stated.input.width
    engine = choose(options.engine, options.model)
    folders = [path for path in sorted(options.photos.iterdir()) if path.name in stated.class_names]
    known = [predicted(folder, engine, size) for folder in folders]
    other = predicted(options.photos / OTHER, engine, size)
    truth = np.repeat(
        [stated.class_names.index(folder.name) for folder in folders], [len(each.ood_score) for each in known]
    )
    probabilities = np.concatenate([each.probabilities for each in known])
    scores = np.concatenate([each.ood_score for each in known])
    print(f"{engine.name} {engine.precision}")
    print(f"right on classes: {share(int((probabilities.argmax(axis=1) == truth).sum()), len(truth))}")
    for confidence in CONFIDENCES:
        for name, found in ((OTHER, other.probabilities), ("classes", probabilities)):
            sure = int((found.max(axis=1) >= confidence).sum())
            print(f"{name} answered with at least {confidence:g}: {share(sure, len(found))}")
    for step in stated.calibration.conformal_thresholds:
        sets = label_sets(probabilities, step.threshold)
        held = share(int(sets[np.arange(len(truth)), truth].sum()), len(truth))
        print(f"sets for {step.coverage:.0%} hold the class: {held}; {sets.sum(axis=1).mean():.2f} labels")
    below = (other.ood_score[:, np.newaxis] > scores).mean()
    print(f"a stranger scores higher than a photograph of a class in {below:.1%} of pairs (AUROC)")
    thresholds = {f"{FALSE_ALARMS:.0%} of these classes alarm": float(np.quantile(scores, 1 - FALSE_ALARMS))}
    if stated.calibration.ood_threshold is not None:
        thresholds["the manifest's threshold"] = stated.calibration.ood_threshold
    for name, threshold in thresholds.items():
        for kind, found in ((OTHER, other.ood_score), ("classes", scores)):
            print(f"{name}, {kind} that pass: {share(int((found <= threshold).sum()), len(found))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
