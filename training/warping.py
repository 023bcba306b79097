"""Blurs, clouds and resampling of whole batches float32 ``[N, H, W, C]``, reflected at the border."""

import numpy as np
from numpy.typing import NDArray

Batch = NDArray[np.float32]
Points = NDArray[np.float64]

SPREAD = 3  # deviations that a Gaussian kernel reaches
SMALLEST = 1e-3  # a deviation below it blurs nothing
NEGLIGIBLE = 1e-4  # a weight below it changes no level of 255


def blurred(x: Batch, deviation: float) -> Batch:
    """Convolved with a Gaussian of that deviation in pixels."""
    line = gaussian(deviation)
    return convolved(convolved(x, line[:, None]), line[None, :])


def gaussian(deviation: float) -> Batch:
    """A line of odd length that sums to 1."""
    reach = max(1, round(SPREAD * deviation))
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(deviation, SMALLEST)) ** 2)
    return np.asarray(line / line.sum(), np.float32)


def disk(radius: float, softness: float) -> Batch:
    """A disk of that radius in pixels, its edge softened by a Gaussian, as a kernel that sums to 1."""
    reach = int(np.ceil(radius)) + 1
    place = np.arange(-reach, reach + 1)
    inside = (place[:, None] ** 2 + place[None, :] ** 2 <= radius**2).astype(np.float32)
    soft = blurred(inside[None, :, :, None], softness)[0, :, :, 0]
    return np.asarray(soft / soft.sum(), np.float32)


def convolved(x: Batch, kernel: Batch) -> Batch:
    """With a kernel of odd sides, reflected at the border."""
    down, right = (side // 2 for side in kernel.shape)
    padded = np.pad(x, ((0, 0), (down, down), (right, right), (0, 0)), mode="symmetric")
    height, width = x.shape[1:3]
    out = np.zeros_like(x)
    for (row, column), weight in np.ndenumerate(kernel):
        if abs(weight) > NEGLIGIBLE:
            out += weight * padded[:, row : row + height, column : column + width]
    return out


def smeared(x: Batch, length: int, deviation: float, degrees: Points) -> Batch:
    """Each picture averaged with itself, moved ever farther in a direction of its own ``[N]``."""
    weights = np.exp(-0.5 * (np.arange(2 * length + 1) / deviation) ** 2)
    rows, columns = _grid(x.shape[1], x.shape[2])
    down, right = (way(np.radians(degrees))[:, None, None] for way in (np.sin, np.cos))
    out = np.zeros_like(x)
    for step, weight in enumerate(weights / weights.sum()):
        if weight > NEGLIGIBLE:
            out += np.float32(weight) * sampled(x, rows + step * down, columns + step * right)
    return out


def zoomed(x: Batch, factor: float) -> Batch:
    """The middle of each picture, enlarged by a factor of at least 1."""
    middle = [(side - 1) / 2 for side in x.shape[1:3]]
    rows, columns = _grid(x.shape[1], x.shape[2])
    return sampled(x, middle[0] + (rows - middle[0]) / factor, middle[1] + (columns - middle[1]) / factor)


def sampled(x: Batch, rows: Points, columns: Points) -> Batch:
    """Bilinear values at points ``[N, H, W]`` or ``[H, W]``, in pixels."""
    count, height, width, channels = x.shape
    pixels, first = x.reshape(-1, channels), height * width * np.arange(count)[:, None, None]
    above, before = (np.floor(place).astype(np.intp) for place in (rows, columns))
    lower, further = (np.asarray(rest[..., None], np.float32) for rest in (rows - above, columns - before))
    left, right = (_reflected(before + step, width) for step in (0, 1))

    def in_line(line: NDArray[np.intp]) -> Batch:
        start = first + width * _reflected(line, height)
        return _between(pixels.take(start + left, axis=0), pixels.take(start + right, axis=0), further)

    return _between(in_line(above), in_line(above + 1), lower)


def _between(a: Batch, b: Batch, share: Batch) -> Batch:
    """So far on the way from a to b, which is overwritten."""
    b -= a
    b *= share
    b += a
    return b


def clouds(random: np.random.Generator, shape: tuple[int, ...], decay: float) -> Batch:
    """Noise ``[N, H, W, 1]`` in 0..1: octaves, each half as large and 1 / decay as strong as the last."""
    count, height, width = shape[:3]
    rows, columns = _grid(height, width)
    total = np.zeros((count, height, width, 1), np.float32)
    for octave in range(1, int(np.log2(height)) + 1):
        cells = 2**octave
        grid = random.uniform(-1, 1, (count, cells, cells, 1)).astype(np.float32)
        total += decay**-octave * sampled(grid, rows * cells / height - 0.5, columns * cells / width - 0.5)
    low, high = (limit(total, axis=(1, 2), keepdims=True) for limit in (np.min, np.max))
    return np.asarray((total - low) / np.maximum(high - low, SMALLEST), np.float32)


def _grid(height: int, width: int) -> tuple[Points, Points]:
    rows, columns = np.meshgrid(np.arange(height, dtype=float), np.arange(width, dtype=float), indexing="ij")
    return rows, columns


def _reflected(place: NDArray[np.intp], side: int) -> NDArray[np.intp]:
    """Places outside of 0 to side - 1 as seen in a mirror at the border, however far they are."""
    folded = np.mod(place, 2 * side)
    return np.asarray(np.minimum(folded, 2 * side - 1 - folded))
