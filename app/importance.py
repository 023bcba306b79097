"""Which parts of a picture carry a label, found by blanking parts of it and asking the model again.

The picture is cut into a grid of cells. The first masks blank a random fifth of the cells, every cell equally
often, as RISE does (Petsiuk, Das & Saenko 2018, https://arxiv.org/abs/1806.07421); what the label loses is
explained by a linear model of the cells, as in LIME (Ribeiro, Singh & Guestrin 2016,
https://arxiv.org/abs/1602.04938). The masks of later rounds are drawn from the cells that matter most so far,
because a network finds its evidence in more than one place, and only their loss together shows it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

GRID: Final = 8
CELLS: Final = GRID * GRID
BLANKED: Final = 13  # cells of a mask, a fifth
FIRST_MASKS: Final = 24
# Masks of each later round, and how many of the most important cells they are drawn from.
ROUNDS: Final = ((16, 32), (16, 24), (16, 18))

_RIDGE: Final = 8.0
_SEED: Final = 0
_SMALLEST: Final = 1e-6  # probabilities closer to 0 or 1 than this say no more

Masks = NDArray[np.bool_]


def blanked(pixels: NDArray[np.uint8], masks: Masks) -> NDArray[np.uint8]:
    """The picture, uint8 [H, W, 3], once per mask, bool [N, CELLS], whose cells take its mean colour."""
    mean = pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    return np.where(hidden(masks, *pixels.shape[:2]), mean, pixels)


def hidden(masks: Masks, height: int, width: int) -> NDArray[np.bool_]:
    """Which pixels masks, bool [N, CELLS], hide: bool [N, height, width, 1]."""
    rows, columns = (np.arange(size) * GRID // size for size in (height, width))
    return masks.reshape(-1, GRID, GRID)[:, rows][:, :, columns, np.newaxis]


class Importance:
    """Learns what each cell contributes to one label, round by round."""

    def __init__(self, probability: float) -> None:
        """`probability` is that of the label for the whole picture."""
        self._whole = _log_odds(np.array([probability]))[0]
        self._random = np.random.default_rng(_SEED)
        self._masks = np.empty((0, CELLS), dtype=np.bool_)
        self._losses = np.empty(0)

    def learn(self, masks: Masks, probabilities: NDArray[np.float32]) -> None:
        """What the label's probability, float32 [N], was under these masks, bool [N, CELLS]."""
        self._masks = np.concatenate([self._masks, masks])
        self._losses = np.concatenate([self._losses, self._whole - _log_odds(probabilities)])

    def next_masks(self, count: int, candidates: int) -> Masks:
        """Masks, bool [count, CELLS], that blank random ones of the cells that matter most."""
        best = np.argsort(-self._contributions(), kind="stable")[:candidates]
        return np.stack([_mask(self._random.choice(best, BLANKED, replace=False)) for _ in range(count)])

    def map(self) -> NDArray[np.float32]:
        """float32 [GRID, GRID], 0 to 1: 1 where the label loses most, 0 where it loses nothing or gains."""
        positive = np.maximum(self._contributions(), 0).astype(np.float32).reshape(GRID, GRID)
        scaled: NDArray[np.float32] = positive / max(positive.max(), np.float32(_SMALLEST))
        return scaled

    def _contributions(self) -> NDArray[np.float64]:
        """What each cell takes from the log-odds: ridge regression of the losses on the masks."""
        blank = self._masks - self._masks.mean(axis=0)
        losses = self._losses - self._losses.mean()
        solution: NDArray[np.float64] = np.linalg.solve(
            blank.T @ blank + _RIDGE * np.eye(CELLS), blank.T @ losses
        )
        return solution


def first_masks() -> Masks:
    """Masks, bool [FIRST_MASKS, CELLS], that blank every cell equally often, give or take one."""
    random = np.random.default_rng(_SEED)
    masks = np.zeros((FIRST_MASKS, CELLS), dtype=np.bool_)
    for mask in masks:
        times = masks.sum(axis=0)
        mask[np.lexsort((random.random(CELLS), times))[:BLANKED]] = True
    return masks


def _mask(cells: NDArray[np.int64]) -> Masks:
    mask = np.zeros(CELLS, dtype=np.bool_)
    mask[cells] = True
    return mask


def _log_odds(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    bounded = np.clip(probabilities.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.log(bounded / (1 - bounded))
