"""How long to wait before something that has failed is tried again."""

from typing import Final

_DOUBLED_AT_MOST: Final = 32  # beyond it, who never gives up would come to numbers that are no floats


def pause_s(times: int, first_s: float, longest_s: float) -> float:
    """After so many failures in a row, at least one: `first_s`, doubled each time, at most `longest_s`."""
    return min(longest_s, first_s * 2.0 ** min(times - 1, _DOUBLED_AT_MOST))
