"""Pictures kept back from a training: what every choice after it is made on."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from training.data import fingerprint
from training.errors import RecipeError

LARGEST_SHARE = 0.5  # of the training pictures that may be held out
PART = 1024  # pictures


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures with labels int64 ``[N]``: of ``stored``, uint8 ``[M, H, W, 3]`` in 0..255, those in ``rows``.

    ``stored`` may be a file mapped into memory. Pictures are read out of it when they are asked for, not when
    they are divided.
    """

    stored: NDArray[np.uint8]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None  # all, if there are none

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> NDArray[np.uint8]:
        """All of them, uint8 ``[N, H, W, 3]``, in memory."""
        return self.stored if self.rows is None else self.stored[self.rows]

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.stored.shape[1])

    def take(self, rows: NDArray[np.int64]) -> "Pictures":
        return Pictures(self.stored, self.labels[rows], rows if self.rows is None else self.rows[rows])

    def fingerprint(self) -> str:
        """SHA-256 over all values, in hexadecimal, without all of them being in memory at once."""
        numbers = np.arange(len(self))
        parts = (self.take(numbers[first : first + PART]).images for first in range(0, len(self), PART))
        return fingerprint(chain(parts, [self.labels]))

    def divided(self, count: int, seed: int = 0) -> tuple["Pictures", "Pictures"]:
        """``count`` of them, each class by its share, and the others, both in the order they have here."""
        chosen = stratified(self.labels, count, seed)
        return self.take(chosen), self.take(np.setdiff1d(np.arange(len(self)), chosen))


@dataclass(frozen=True, eq=False)
class Split:
    """The pictures that the weights are learnt from, and others, perhaps none, that they never see."""

    train: Pictures
    held_out: Pictures

    @classmethod
    def of(cls, pictures: Pictures, held_out: int, seed: int) -> "Split":
        """Holds out that many pictures, each class by its share.

        Raises:
            RecipeError: more than half would be held out.
        """
        most = int(LARGEST_SHARE * len(pictures))
        if held_out > most:
            raise RecipeError(
                f"held_out is {held_out:,} of {len(pictures):,} training pictures; at most {most:,} can be "
                f"kept back from this training. Give --held-out {most} or fewer."
            )
        kept_back, train = pictures.divided(held_out, seed)
        return cls(train, kept_back)

    def for_choices(self) -> Pictures:
        """What precisions are compared on and the temperature is fitted on.

        Where none are held out, these are pictures of the training: good enough to compare two precisions of
        the same network with each other, and for nothing else.
        """
        return self.held_out.divided(len(self.held_out) // 2)[1] if len(self.held_out) else self.train

    def for_thresholds(self) -> Pictures:
        """The other half, which nothing was fitted to: the coverage of conformal sets rests on that."""
        return self.held_out.divided(len(self.held_out) // 2)[0]


def stratified(labels: NDArray[np.int64], count: int, seed: int = 0) -> NDArray[np.int64]:
    """Ascending rows of ``count`` labels, at most all, drawn so that classes keep their shares within one."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    # Ranks within each class, scaled to 0..1: the smallest of all hold every class in proportion.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        rank[rows] = (np.arange(len(rows)) + random.random()) / len(rows)
    return np.sort(np.argsort(rank, kind="stable")[:count])
