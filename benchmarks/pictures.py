"""The pictures that are sent: generated from a seed, so that everybody measures with the same ones."""

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image

SEED: Final = 20261124
# The squares of noise, as a share of the longer side, and how much of each layer is seen: like a photograph,
# most of it is coarse, so a JPEG of it is about as large as one from a camera.
_LAYERS: Final = ((0.5, 1.0), (0.25, 0.4), (0.06, 0.3), (0.015, 0.2), (0.002, 0.15), (0.0, 0.06))


@dataclass(frozen=True)
class Picture:
    """A kind of picture to send, in so many `different` ones; `title` is what it is called in tables."""

    name: str
    title: str
    width: int
    height: int
    form: str
    different: int

    @property
    def content_type(self) -> str:
        return f"image/{self.form.lower()}"


# More of the small ones than a server has in its batches and queues; a large one takes seconds to generate.
PICTURES: Final = (
    Picture("png32", "32x32 PNG", 32, 32, "PNG", different=512),
    Picture("jpeg500", "500x375 JPEG", 500, 375, "JPEG", different=16),
    Picture("jpeg12mp", "12-megapixel JPEG", 4000, 3000, "JPEG", different=1),
)


def encoded(picture: Picture, number: int = 0) -> bytes:
    """One of the different ones, from 0."""
    return _encoded(picture, number)


@cache
def _encoded(picture: Picture, number: int) -> bytes:
    file = BytesIO()
    generated(picture.width, picture.height, SEED + number).save(file, picture.form, quality=90)
    return file.getvalue()


def generated(width: int, height: int, seed: int = SEED) -> Image.Image:
    """Noise of several sizes, coarse to fine, in RGB."""
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (width, height))
    for share, weight in _LAYERS:
        side = max(1, round(share * max(width, height)))
        shape = (-(-height // side) + 1, -(-width // side) + 1, 3)
        noise = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
        picture = Image.blend(picture, noise.resize((width, height), Image.Resampling.BICUBIC), weight)
    return picture
