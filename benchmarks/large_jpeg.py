"""What a 12-megapixel JPEG costs before the network sees it, here and with Pillow's open, convert and resize.

    python benchmarks/large_jpeg.py

Both decode the same generated picture to 32x32, in turn, in one thread; the median of the processor time
counts. The pixels are compared with those of the full decode.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pictures import PICTURES, encoded
from PIL import Image

from app import imaging

SIZE = (32, 32)


@dataclass(frozen=True)
class Comparison:
    """Processor time in milliseconds, and the mean absolute difference of the pixels, in levels of 0..255."""

    here_ms: float
    pillow_ms: float
    levels: float

    @property
    def share(self) -> float:
        return self.here_ms / self.pillow_ms


def here(data: bytes) -> NDArray[np.uint8]:
    return imaging.decode(data, size=SIZE).pixels


def with_pillow(data: bytes) -> NDArray[np.uint8]:
    """As tutorials do it, with the filter that is used here."""
    return np.asarray(Image.open(BytesIO(data)).convert("RGB").resize(SIZE, imaging.FILTER))


def compare(rounds: int) -> Comparison:
    data = encoded(PICTURES[-1])
    spent: dict[object, list[float]] = {here: [], with_pillow: []}
    for _ in range(rounds):
        for decode in (here, with_pillow):
            began = time.thread_time()
            decode(data)
            spent[decode].append(1000 * (time.thread_time() - began))
    difference = np.abs(here(data).astype(int) - with_pillow(data)).mean()
    return Comparison(
        statistics.median(spent[here]), statistics.median(spent[with_pillow]), float(difference)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="pictures decoded by each (default: 9)")
    found = compare(parser.parse_args().rounds)
    print(f"here {found.here_ms:.1f} ms, Pillow {found.pillow_ms:.1f} ms: a share of {found.share:.3f}")
    print(f"mean difference of the pixels: {found.levels:.2f} levels")


if __name__ == "__main__":
    main()
