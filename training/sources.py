"""Which pictures a training is asked to learn from, and what follows from that."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.data import SIDE, Dataset, is_cifar10, load_cifar10
from training.errors import DataError
from training.folders import load_folder
from training.recipe import Recipe

CIFAR10_MODEL = "resnet18-cifar10"
IMAGE_SIZES = {"cifar": 32, "imagenet": 224}  # pixels, by the stem that is made for them


@dataclass(frozen=True)
class Source:
    """CIFAR-10, or a ``folder`` of one's own; a model called ``name`` comes of it."""

    path: Path | None
    folder: bool
    name: str
    image_size: int

    @classmethod
    def of(cls, path: Path | None, name: str | None, image_size: int | None, stem: str) -> "Source":
        """What the options mean together.

        Raises:
            DataError: a folder of one's own without a name, or CIFAR-10 with a size that it does not have.
        """
        if path is None or is_cifar10(path):
            if image_size not in (None, SIDE):
                raise DataError(
                    f"--image-size {image_size} is for folders of one's own; the pictures of CIFAR-10 have "
                    f"{SIDE} pixels. Leave it out, or give such a folder with --data."
                )
            return cls(path, False, name or CIFAR10_MODEL, SIDE)
        if name is None:
            raise DataError(
                f"{path} is a folder of your own, and a model of it needs a name: give one, for instance "
                "--name flowers. (CIFAR-10 would have data_batch_1 and the other files of its archive in it.)"
            )
        return cls(path, True, name, image_size or IMAGE_SIZES[stem])

    def run_name(self, recipe: Recipe) -> str:
        """What the folder with the checkpoints is called."""
        return f"{self.name}-{recipe.name}" if self.folder else recipe.name

    def load(self, scratch: Path, seed: int, report: Callable[[str], None]) -> Dataset:
        """Reads the pictures; see `load_cifar10` and `load_folder`.

        Raises:
            DataError: they cannot be used.
        """
        if self.folder and self.path is not None:
            return load_folder(self.path, self.image_size, scratch=scratch, seed=seed, report=report)
        return load_cifar10(self.path)
