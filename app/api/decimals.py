"""float32 as text."""

import numpy as np
from numpy.typing import NDArray


def shortest(values: NDArray[np.float32]) -> list[float]:
    """The values, flat, as numbers that print with the fewest digits which still give the same float32."""
    return [float(str(value)) for value in values.ravel()]
