"""A map of importance over a picture: what counted keeps its light and colours, the rest is grey and dark."""

from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app import geometry
from app.geometry import Fit

MAX_SIDE: Final = 384  # pixels
_DARKEST: Final = 0.3  # of its light is left to what did not count at all
_LUMA: Final = (0.299, 0.587, 0.114)  # ITU-R BT.601


def size(width: int, height: int) -> tuple[int, int]:
    """Height and width of the overlay for a picture of this size, in pixels; it is never enlarged."""
    scale = min(1.0, MAX_SIDE / max(width, height))
    return max(1, round(height * scale)), max(1, round(width * scale))


def png(pixels: NDArray[np.uint8], importance: NDArray[np.float32], seen: tuple[int, int], fit: Fit) -> bytes:
    """A PNG file of `pixels`, uint8 [H, W, 3], under `importance`, float32 [G, G] from 0 to 1.

    `seen` is (height, width) of what the network takes; `fit` says which part of the picture that was.
    """
    weight = _spread(importance, pixels.shape[:2], seen, fit)[..., np.newaxis]
    grey = (pixels @ np.array(_LUMA, dtype=np.float32))[..., np.newaxis] * _DARKEST
    shown = (weight * pixels + (1 - weight) * grey).round().astype(np.uint8)
    file = BytesIO()
    Image.fromarray(shown).save(file, "PNG", compress_level=3)
    return file.getvalue()


def _spread(
    importance: NDArray[np.float32], shape: tuple[int, ...], seen: tuple[int, int], fit: Fit
) -> NDArray[np.float32]:
    """float32 [H, W]: the map stretched over the part that was used, nothing outside of it."""
    height, width = shape
    used_width, used_height = (max(1, round(side)) for side in geometry.kept((width, height), seen, fit))
    top, left = (height - used_height) // 2, (width - used_width) // 2
    spread = np.zeros((height, width), dtype=np.float32)
    smooth = Image.fromarray(importance).resize((used_width, used_height), Image.Resampling.BILINEAR)
    spread[top : top + used_height, left : left + used_width] = np.asarray(smooth)
    return spread
