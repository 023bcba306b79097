"""Named recipes: every number that decides what a training does, in one place."""

from dataclasses import dataclass, replace
from typing import Literal

from training.errors import RecipeError


@dataclass(frozen=True)
class Phase:
    """Some epochs at one picture size."""

    epochs: int
    image_size: int  # pixels
    smallest_crop: float = 1.0  # share of a side; up to 1, then resized

    def __post_init__(self) -> None:
        """Refuses what no training can use.

        Raises:
            RecipeError: the message names the number, its value and its range.
        """
        if not (self.epochs >= 1 and 8 <= self.image_size <= 1024 and 0.1 <= self.smallest_crop <= 1.0):
            raise RecipeError(
                f"the phase {self.epochs}x{self.image_size}@{self.smallest_crop:g} cannot be used: it needs "
                "1 or more epochs, 8 to 1024 pixels and a crop of 0.1 to 1."
            )


# Of the training pictures, per channel, of pixels scaled to 0..1.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_DEVIATION = (0.2470, 0.2435, 0.2616)

DESIGNED_FOR = 32  # pixels: the picture size that every number of the recipes below was chosen at
HALVES_THRICE = 8  # a multiple of it stays whole through the three stages that halve a picture

FEWEST_HELD_OUT = 500  # pictures: fewer would not tell a coverage of 99 % from one of 97 %

RANGES = (
    ("peak_learning_rate", 1e-9, 100.0),
    ("batch_size", 1, 65_536),
    ("seed", 0, 2**32 - 1),
    ("warmup", 0.0, 1.0),
    ("start_learning_rate", 0.0, 1.0),
    ("momentum", 0.0, 0.999),
    ("weight_decay", 0.0, 1.0),
    ("dropout", 0.0, 0.99),
    ("translate", 0, 1023),
    ("cutout", 0, 1024),
    ("uploads", 0.0, 1.0),
    ("grain", 0.0, 1.0),
    ("augmix", 0.0, 1.0),
    ("held_out", 0, 10_000_000),
)


@dataclass(frozen=True)
class Recipe:
    """A training, reproducible from these numbers, the data and the seed."""

    name: str
    phases: tuple[Phase, ...]
    optimizer: Literal["adam", "sgd"]
    peak_learning_rate: float
    stem: Literal["cifar", "imagenet"] = "cifar"
    batch_size: int = 128
    seed: int = 0
    schedule: Literal["constant", "triangle"] = "triangle"
    warmup: float = 0.15  # share of all steps until the peak
    start_learning_rate: float = 0.2  # share of the peak at step 0
    momentum: float = 0.9
    weight_decay: float = 0.0  # on kernels, as the L2 gradient coefficient of the papers
    dropout: float = 0.0
    flip: bool = False
    translate: int = 0  # pixels, reflected at the border
    cutout: int = 0  # side in pixels of the square that is hidden
    uploads: float = 0.0  # share of pictures that look as if somebody sent them, see training/uploads.py
    grain: float = 0.0  # share of those that are noisy as well
    augmix: float = 0.0  # share of pictures averaged with distortions of theirs, see training/augmix.py
    held_out: int = 0  # training pictures kept back for every choice after the training
    whitened_stem: bool = False
    standardize: bool = (
        True  # subtract the training set's mean and divide by its deviation; else scale to 0..1
    )

    def __post_init__(self) -> None:
        """Refuses numbers that no training can use.

        Raises:
            RecipeError: the message names the number, its value and its range.
        """
        for name, lowest, highest in RANGES:
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise RecipeError(f"{name} is {value}; it must be between {lowest:g} and {highest:g}.")
        if not self.phases:
            raise RecipeError("phases is empty; a recipe needs at least one.")
        if self.whitened_stem and self.stem == "imagenet":
            raise RecipeError("whitened_stem fits the stem cifar; the imagenet stem has too large a kernel.")

    @property
    def epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases)

    def phase(self, epoch: int) -> Phase:
        """The phase that ``epoch``, counted from 0, belongs to."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase
            epoch -= phase.epochs
        raise IndexError(f"the recipe has {self.epochs} epochs")

    def learning_rate(self, step: int, total_steps: int) -> float:
        """Constant, or a triangle: linear from the start to the peak, then to zero after the last step."""
        if self.schedule == "constant":
            return self.peak_learning_rate
        peak_step = max(1.0, self.warmup * total_steps)
        if step < peak_step:
            share = self.start_learning_rate + (1.0 - self.start_learning_rate) * step / peak_step
        else:
            share = (total_steps - step) / max(1.0, total_steps - peak_step)
        return self.peak_learning_rate * max(0.0, share)

    def at_size(self, image_size: int) -> "Recipe":
        """The same for pictures of another size: what is counted in pixels grows or shrinks with it."""
        if image_size == DESIGNED_FOR:
            return self

        def scaled(pixels: int) -> int:
            if pixels == DESIGNED_FOR:
                return image_size
            return max(1, round(pixels * image_size / DESIGNED_FOR / HALVES_THRICE)) * HALVES_THRICE

        phases = tuple(replace(phase, image_size=scaled(phase.image_size)) for phase in self.phases)
        translate, cutout = (
            round(pixels * image_size / DESIGNED_FOR) for pixels in (self.translate, self.cutout)
        )
        return replace(self, phases=phases, translate=translate, cutout=cutout)

    def for_pictures(self, count: int) -> "Recipe":
        """The same for so many training pictures, of which a tenth may be held out, if that is enough."""
        held_out = min(self.held_out, count // 10)
        return replace(self, held_out=held_out if held_out >= FEWEST_HELD_OUT else 0)

    def input_scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation, per channel, of pixels that were scaled to 0..1."""
        return (CIFAR10_MEAN, CIFAR10_DEVIATION) if self.standardize else ((0.0,) * 3, (1.0,) * 3)


SEED = Recipe(
    name="seed",
    phases=(Phase(epochs=10, image_size=32),),
    optimizer="adam",
    peak_learning_rate=0.01,
    schedule="constant",
    standardize=False,
)

QUICK = Recipe(
    name="quick",
    phases=(
        Phase(epochs=6, image_size=16, smallest_crop=0.75),
        Phase(epochs=4, image_size=24, smallest_crop=0.75),
        Phase(epochs=1, image_size=32),
    ),
    optimizer="sgd",
    peak_learning_rate=0.1,
    weight_decay=5e-4,
    flip=True,
    translate=2,
    uploads=0.25,
    held_out=2_500,
    whitened_stem=True,
)

FULL = Recipe(
    name="full",
    phases=(
        Phase(epochs=20, image_size=16, smallest_crop=0.75),
        Phase(epochs=40, image_size=24, smallest_crop=0.75),
        Phase(epochs=48, image_size=32),
    ),
    optimizer="sgd",
    peak_learning_rate=0.1,
    warmup=0.1,
    weight_decay=1e-3,
    flip=True,
    translate=4,
    cutout=12,
    uploads=0.3,
    grain=0.5,
    augmix=0.5,
    held_out=5_000,
    whitened_stem=True,
)

RECIPES = {recipe.name: recipe for recipe in (SEED, QUICK, FULL)}
