"""The door to the evaluation of a published version: `python training/evaluate.py --help`."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.errors import ModelNotFoundError, ServiceError
from app.manifest import FILE_NAME, Manifest
from app.repository import Repository, Version
from training.assessment import Extent, assess
from training.data import Dataset, is_cifar10, load_cifar10
from training.errors import DataError, TrainingError
from training.folders import load_folder, says_what_is_for_testing
from training.report import write_report
from training.split import Pictures, Split

USAGE_ERROR = 2

DESCRIPTION = """\
Measure a published version through the service's own code: the test pictures on
every engine that runs here; on the one that a service would choose, also the same
pictures corrupted in fifteen ways, as enlarged JPEG files, and your photographs.

  python training/evaluate.py --model model/resnet18-cifar10
  python training/evaluate.py --model model/resnet18-cifar10 --photos PHOTOS --limit 500
  python training/evaluate.py --model model/resnet18-cifar10/2 --held-out
  python training/evaluate.py --model model/flowers --data flowers/
                              a model of your own pictures, and the folder of these

With --held-out, pictures that its training kept back stand in for the test pictures:
that is what recipes may be chosen by, and no page is written.

Nothing in the version changes. The figures are printed and written as a page.
"""


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python training/evaluate.py",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument(
        "--model", type=Path, required=True, metavar="PATH", help="folder of the model or of a version"
    )
    command.add_argument("--version", type=int, metavar="N", help="its version (the newest)")
    command.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="CIFAR-10 archive (.tar.gz, .tar.xz) or its folder; or the folder of your own "
        "pictures that it learnt from",
    )
    command.add_argument(
        "--photos", type=Path, metavar="FOLDER", help="photographs, in a folder per class and others"
    )
    command.add_argument(
        "--disturbed",
        type=int,
        metavar="N",
        default=Extent.disturbed,
        help=f"test pictures for each corruption and as JPEG, 0 for none ({Extent.disturbed})",
    )
    command.add_argument(
        "--held-out",
        action="store_true",
        help="measure on training pictures that were held out, to choose between recipes",
    )
    command.add_argument("--limit", type=int, metavar="N", help="use the first N of the pictures only")
    command.add_argument(
        "--report", type=Path, metavar="FILE", default=Path("report.html"), help="the page (report.html)"
    )
    return command


def evaluate(options: argparse.Namespace) -> None:
    """Measures and reports as the options say.

    Raises:
        DataError: the data or the photographs cannot be used, or are not of this version's classes.
        ServiceError: there is no such version, or nothing here can run it.
    """
    version = _opened(options.model, options.version)
    data = _data_for(version, options)
    shape = version.manifest.input
    size = shape.height, shape.width
    extent = Extent.chosen(options.disturbed, options.photos, data.class_names, size)
    assessment = assess(version.path, version.manifest.calibration, data, extent, print)
    if not options.held_out:
        write_report(options.report, version.manifest, assessment)
        print(f"report of {version} in {options.report}")


def _opened(folder: Path, number: int | None) -> Version:
    """The version in ``folder``, or that of the model in it with this number, else its newest."""
    folder = folder.absolute()
    if folder.name.isdigit() and (folder / FILE_NAME).is_file():
        if number is not None:
            raise DataError(f"--model {folder} is a version; name the folder of its model, or no --version.")
        return Repository(folder.parent.parent).open(folder.parent.name, int(folder.name))
    try:
        return Repository(folder.parent).open(folder.name, number)
    except ModelNotFoundError as error:
        raise DataError(
            f"--model {folder} holds no published version. Name the folder of a model or of a version of it, "
            "for instance model/resnet18-cifar10."
        ) from error


def _data_for(version: Version, options: argparse.Namespace) -> Dataset:
    manifest, folder = version.manifest, options.data
    is_own = folder is not None and not is_cifar10(folder)
    trained_on = _lineage(manifest, "data").get("name", Dataset.name)
    if folder is None and trained_on != Dataset.name:
        raise DataError(
            f"{version} was trained on {trained_on}, not on {Dataset.name}: give the folder of its pictures "
            f"with --data. What its training measured stands in {version.path / FILE_NAME}."
        )
    data = _own(manifest, folder) if is_own else load_cifar10(folder)
    if data.class_names != manifest.class_names:
        raise DataError(
            f"{manifest.name} knows the classes {', '.join(manifest.class_names)}, and the data set has "
            f"{', '.join(data.class_names)}. Evaluate it on the data that it was trained for."
        )
    if options.held_out:
        data = held_out(manifest, data)
    elif is_own and not says_what_is_for_testing(folder) and _as_trained(manifest, data) is None:
        raise DataError(
            f"{folder} is not exactly what {version} was trained on, so what it learnt from cannot be told "
            "from what it never saw. Give that folder, or one with sub-folders train and test."
        )
    return data.limited(options.limit) if options.limit else data


def _own(manifest: Manifest, folder: Path) -> Dataset:
    """Somebody's own pictures, divided as for the training of this version."""
    return load_folder(
        folder,
        manifest.input.height,
        scratch=Path(tempfile.gettempdir()),
        seed=_lineage(manifest, "recipe_values").get("seed", 0),
        report=lambda words: print(words, file=sys.stderr),
    )


def held_out(manifest: Manifest, data: Dataset) -> Dataset:
    """The data with what the training of this version kept back in place of the test pictures.

    Raises:
        DataError: it kept none back, or was not trained on this data, so they cannot be drawn as they were.
    """
    trained_on, recipe = _as_trained(manifest, data), _lineage(manifest, "recipe_values")
    if trained_on is None:
        raise DataError(
            f"version {manifest.version} of {manifest.name} was not trained on exactly these pictures, so "
            "those that it held out cannot be told from the others. Give the data that it was trained on."
        )
    if not recipe.get("held_out"):
        raise DataError(
            f"version {manifest.version} of {manifest.name} held no pictures out. Train it with --held-out N."
        )
    pictures = Pictures(trained_on.train_images, trained_on.train_labels)
    kept_back = Split.of(pictures, recipe["held_out"], recipe["seed"]).held_out
    return data.judged_by(kept_back.images, kept_back.labels, "held out")


def _as_trained(manifest: Manifest, data: Dataset) -> Dataset | None:
    """The part of the data that the training of this version had; None if that had others."""
    limit = _lineage(manifest, "overrides").get("limit")
    part = data.limited(limit) if limit else data
    return part if _lineage(manifest, "data").get("fingerprint_sha256") == part.fingerprint() else None


def _lineage(manifest: Manifest, part: str) -> dict[str, Any]:
    lineage: dict[str, Any] = manifest.lineage
    found: dict[str, Any] = lineage.get(part, {})
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 when all was measured, 2 for what the caller can mend."""
    options = parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        evaluate(options)
    except (TrainingError, ServiceError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return USAGE_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
