"""Pictures kept back from a training: what every choice after it is made on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.errors import RecipeError

LARGEST_SHARE = 0.5  # of the training pictures that may be held out


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures uint8 ``[N, H, W, 3]`` in 0..255 with labels int64 ``[N]``."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> "Pictures":
        return Pictures(self.images[rows], self.labels[rows])

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
