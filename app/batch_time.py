"""How long an engine takes for a batch: some time for each, and some for each picture in it."""

from typing import Final

_SMOOTHING: Final = 0.1  # weight of the newest batch
_NO_SPREAD: Final = 1e-6  # in pictures squared; batches of one size tell nothing of others


class BatchTime:
    """A line through the latest batches by least squares, the older the less they weigh.

    Not the mean time per picture: a picture costs less in a large batch, so an estimate by that, where it
    keeps many from waiting, keeps batches small, and itself too long. Until sizes differ, a batch is taken to
    cost the same whatever its size.
    """

    def __init__(self) -> None:
        self._pictures = self._seconds = 0.0  # means
        self._spread = self._together = 0.0  # variance of the pictures, and their covariance with the seconds

    def observe(self, pictures: int, seconds: float) -> None:
        """A batch of so many took so long."""
        if not self._pictures:
            self._pictures, self._seconds = pictures, seconds
            return
        more, longer = pictures - self._pictures, seconds - self._seconds
        self._pictures += _SMOOTHING * more
        self._seconds += _SMOOTHING * longer
        self._spread = (1 - _SMOOTHING) * (self._spread + _SMOOTHING * more * more)
        self._together = (1 - _SMOOTHING) * (self._together + _SMOOTHING * more * longer)

    def estimate(self, batches: int, pictures: int) -> float:
        """Seconds for these, one batch after the other; 0 as long as nothing is known."""
        if not self._pictures:
            return 0.0
        most = self._seconds / self._pictures
        per_picture = min(most, max(0.0, self._together / (self._spread + _NO_SPREAD)))
        per_batch = self._seconds - per_picture * self._pictures
        return batches * per_batch + pictures * per_picture
