"""The command `python training/train.py`: options, terminal output, exit codes."""

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from app.chatter import held_back
from app.errors import ServiceError
from app.manifest import NAME_PATTERN
from app.repository import Repository
from training.assessment import Extent
from training.errors import RecipeError, TrainingError
from training.recipe import RECIPES, Phase, Recipe
from training.sources import CIFAR10_MODEL, IMAGE_SIZES, Source

PROJECT = Path(__file__).resolve().parent.parent
SMALLEST_IMAGE, LARGEST_IMAGE = 8, 1024  # pixels
USAGE_ERROR = 2
INTERRUPTED = 130

DESCRIPTION = """\
Train ResNet18 on CIFAR-10 or on pictures of your own, measure it on test pictures and
publish it as the next version of a model, which the service finds and loads.

  python training/train.py                      the quick recipe, data found or downloaded
  python training/train.py --recipe seed        the textbook one
  python training/train.py --data cifar.tar.gz  data that is there already
  python training/train.py --data flowers/ --name flowers --image-size 64
                                                a folder with one sub-folder per class
  python training/train.py --limit 2000 --phases 1x32 --model-root /tmp/try

A training that was stopped goes on from its last checkpoint when the same command is
given again.
"""


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python training/train.py",
        description=DESCRIPTION
        + "\nrecipes:\n"
        + "\n".join(_recipe_line(recipe) for recipe in RECIPES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [--recipe NAME] [--data PATH] [options]",
        allow_abbrev=False,
    )
    command.add_argument(
        "--recipe", choices=sorted(RECIPES), default="quick", help="named set of all numbers below (quick)"
    )
    _add_data_options(command)
    _add_run_options(command)
    _add_numbers(command)
    return command


def _add_data_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="CIFAR-10 archive (.tar.gz, .tar.xz) or its folder; or a folder with one sub-folder per class",
    )
    sizes = ", ".join(f"{size} with the stem {stem}" for stem, size in IMAGE_SIZES.items())
    command.add_argument(
        "--image-size",
        type=_image_size,
        metavar="N",
        help=f"pixels a side that pictures of a folder of your own are brought to ({sizes})",
    )
    command.add_argument(
        "--limit", type=_positive, metavar="N", help="use the first N pictures only, to try things out"
    )


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--name",
        type=_model_name,
        help=f"model to publish a version of ({CIFAR10_MODEL}; of a folder of your own: you choose)",
    )
    command.add_argument(
        "--model-root",
        type=Path,
        metavar="PATH",
        default=PROJECT / "model",
        help="folder that holds the models (the project's model/)",
    )
    command.add_argument(
        "--run-dir", type=Path, metavar="PATH", help="where checkpoints go (runs/RECIPE or runs/NAME-RECIPE)"
    )
    command.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=120.0,
        metavar="N",
        help="time between checkpoints (120)",
    )
    command.add_argument(
        "--tensorboard",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FOLDER",
        help="write figures of every step for TensorBoard (RUN_DIR/tensorboard)",
    )
    command.add_argument("--restart", action="store_true", help="ignore the checkpoint of an earlier run")
    measured = command.add_argument_group("measured when it is published, beside the test pictures")
    measured.add_argument(
        "--disturbed",
        type=int,
        metavar="N",
        default=Extent.disturbed,
        help=f"test pictures for each of fifteen corruptions, 0 for none ({Extent.disturbed})",
    )
    measured.add_argument(
        "--photos", type=Path, metavar="FOLDER", help="photographs, in a folder per class and others"
    )


def _add_numbers(command: argparse.ArgumentParser) -> None:
    numbers = command.add_argument_group(
        "numbers of the recipe", "given here, they replace the recipe's own, which stand in brackets"
    )
    numbers.add_argument(
        "--epochs", type=_positive, metavar="N", help="passes over the data, for a recipe of one phase"
    )
    for field, kind in _overridable():
        numbers.add_argument(
            f"--{field.replace('_', '-')}",
            **_argument(kind),
            default=None,
            help=f"{HELP[field]} ({_recipe_values(field)})",
        )


HELP = {
    "stem": "first layers: for small pictures, or for those of 224 pixels",
    "phases": "EPOCHSxPIXELS[@CROP],...: epochs at a size, from crops of at least that share of a side",
    "optimizer": "how weights follow gradients",
    "peak_learning_rate": "learning rate at its highest",
    "batch_size": "pictures per step",
    "seed": "of the start weights, the order and the augmentation",
    "schedule": "of the learning rate",
    "warmup": "share of all steps until the peak",
    "start_learning_rate": "share of the peak at the first step",
    "momentum": "of sgd",
    "weight_decay": "L2 coefficient on kernels, for sgd",
    "dropout": "share of the features dropped before the last layer",
    "flip": "mirror pictures left to right at random",
    "translate": "move pictures by up to this many pixels",
    "cutout": "hide a square of this many pixels",
    "uploads": "share of pictures scaled, stretched, lit, blurred or compressed as what people send is",
    "grain": "share of what uploads changes that is noisy as well, as in poor light",
    "augmix": "share of pictures averaged with several distortions of theirs",
    "held_out": "training pictures kept back, to calibrate on and to compare precisions",
    "whitened_stem": "start the first convolution as a whitening of patches",
    "standardize": "scale pixels by mean and deviation, not to 0..1",
}


def _recipe_line(recipe: Recipe) -> str:
    phases = ", ".join(_phase_words(phase) for phase in recipe.phases)
    return f"  {recipe.name:<7}{recipe.optimizer}, learning rate {recipe.peak_learning_rate:g}, {phases}"


def _phase_words(phase: Phase) -> str:
    return f"{phase.epochs} epoch{'s' * (phase.epochs > 1)} at {phase.image_size} px"


def _recipe_values(field: str) -> str:
    """What each recipe says, once if all agree."""
    values = {name: _text(getattr(recipe, field)) for name, recipe in RECIPES.items()}
    if len(set(values.values())) == 1:
        return values.popitem()[1]
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(_phase_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _phase_text(phase: Phase) -> str:
    crop = f"@{phase.smallest_crop:g}" if phase.smallest_crop < 1 else ""
    return f"{phase.epochs}x{phase.image_size}{crop}"


def _overridable() -> list[tuple[str, Any]]:
    hints = get_type_hints(Recipe)
    return [(field.name, hints[field.name]) for field in dataclasses.fields(Recipe) if field.name in HELP]


def _argument(kind: Any) -> dict[str, Any]:
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if kind in (int, float):
        return {"type": kind, "metavar": "N"}
    if choices := [choice for choice in get_args(kind) if isinstance(choice, str)]:
        return {"choices": choices}
    return {"type": _phases, "metavar": "PLAN"}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return number


def _image_size(text: str) -> int:
    number = int(text)
    if not SMALLEST_IMAGE <= number <= LARGEST_IMAGE:
        raise argparse.ArgumentTypeError(f"{text} is not between {SMALLEST_IMAGE} and {LARGEST_IMAGE} pixels")
    return number


def _model_name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not made of a-z, 0-9, '.', '_' and '-', at most 100")
    return text


def _phases(text: str) -> tuple[Phase, ...]:
    found = [re.fullmatch(r"(\d+)x(\d+)(?:@(0?\.\d+|1(?:\.0*)?))?", part) for part in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not EPOCHSxPIXELS[@CROP],... as in 4x16@0.75,1x32")
    try:
        return tuple(Phase(int(m[1]), int(m[2]), float(m[3] or 1.0)) for m in found if m)
    except RecipeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def chosen_recipe(options: argparse.Namespace, source: Source) -> tuple[Recipe, dict[str, Any]]:
    """The named recipe for pictures of this size with what the command line replaced, and what that was.

    Raises:
        RecipeError: a number is out of its range.
    """
    recipe = RECIPES[options.recipe].at_size(source.image_size)
    given = {field: getattr(options, field) for field, _ in _overridable()}
    overrides = {field: value for field, value in given.items() if value is not None}
    if options.stem == "imagenet" and recipe.whitened_stem:
        overrides.setdefault("whitened_stem", False)
    if options.epochs:
        overrides["phases"] = (dataclasses.replace(_only_phase(recipe, overrides), epochs=options.epochs),)
    return dataclasses.replace(recipe, **overrides), overrides


def _only_phase(recipe: Recipe, overrides: dict[str, Any]) -> Phase:
    phases: tuple[Phase, ...] = overrides.get("phases", recipe.phases)
    if len(phases) > 1:
        raise RecipeError(
            f"--epochs fits a recipe of one phase, and {recipe.name} has {len(phases)} here. "
            f"Say how many at each size with --phases, for instance {_text(phases)}."
        )
    return phases[0]


def _tensorboard(options: argparse.Namespace, run_dir: Path) -> Path | None:
    """The folder that was named, or, after the option alone, the one of this run."""
    return run_dir / "tensorboard" if options.tensorboard == Path() else options.tensorboard


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 when a version was published, 2 for what the caller can mend, 130 if stopped."""
    options = parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        source = Source.of(
            options.data, options.name, options.image_size, options.stem or RECIPES[options.recipe].stem
        )
        recipe, overrides = chosen_recipe(options, source)
        run_dir = options.run_dir or PROJECT / "runs" / source.run_name(recipe)
        data = source.load(run_dir, recipe.seed, lambda words: print(words, file=sys.stderr))
        if options.limit:
            data = data.limited(options.limit)
            overrides["limit"] = options.limit
        if options.held_out is None:
            recipe = recipe.for_pictures(len(data.train_labels))
        size = data.image_size, data.image_size
        extent = Extent.chosen(options.disturbed, options.photos, data.class_names, size)

        with held_back():
            from training.run import Checkpoints, train_and_publish

        train_and_publish(
            recipe,
            overrides,
            data,
            repository=Repository(options.model_root),
            name=source.name,
            checkpoints=Checkpoints(run_dir / "checkpoint.npz", options.checkpoint_seconds),
            restart=options.restart,
            tensorboard=_tensorboard(options, run_dir),
            extent=extent,
        )
    except (TrainingError, ServiceError) as error:
        print(f"train: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(
            "\ntrain: stopped; nothing was published. The same command goes on from the checkpoint.",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 0
