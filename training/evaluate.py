"""The door to the evaluation of a published version: `python training/evaluate.py --help`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import ServiceError
from app.manifest import Manifest
from app.repository import Repository
from training.assessment import Extent, assess
from training.data import Dataset, load_cifar10
from training.errors import DataError, TrainingError
from training.report import write_report

USAGE_ERROR = 2

DESCRIPTION = """\
Measure a published version through the service's own code: the test pictures on
every engine that runs here; on the one that a service would choose, also the same
pictures corrupted in fifteen ways, as enlarged JPEG files, and your photographs.

  python training/evaluate.py --model model/resnet18-cifar10
  python training/evaluate.py --model model/resnet18-cifar10 --photos PHOTOS --limit 500

Nothing in the version changes. The figures are printed and written as a page.
"""


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python training/evaluate.py",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--model", type=Path, required=True, metavar="PATH", help="folder of the model")
    command.add_argument("--version", type=int, metavar="N", help="its version (the newest)")
    command.add_argument(
        "--data", type=Path, metavar="PATH", help="CIFAR-10 archive (.tar.gz, .tar.xz) or its folder"
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
    command.add_argument("--limit", type=int, metavar="N", help="use the first N test pictures only")
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
    version = Repository(options.model.parent).open(options.model.name, options.version)
    data = _data_for(version.manifest, options)
    shape = version.manifest.input
    size = shape.height, shape.width
    extent = Extent.chosen(options.disturbed, options.photos, data.class_names, size)
    assessment = assess(version.path, version.manifest.calibration, data, extent, print)
    write_report(options.report, version.manifest, assessment)
    print(f"report of {version} in {options.report}")


def _data_for(manifest: Manifest, options: argparse.Namespace) -> Dataset:
    data = load_cifar10(options.data)
    if data.class_names != manifest.class_names:
        raise DataError(
            f"{manifest.name} knows the classes {', '.join(manifest.class_names)}, and the data set has "
            f"{', '.join(data.class_names)}. Evaluate it on the data that it was trained for."
        )
    return data.limited(options.limit) if options.limit else data


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
