"""The reliability diagram: the share that was right against how sure the model was, as SVG."""

from collections.abc import Sequence
from typing import Final

from app.manifest import ReliabilityBin

_SIDE: Final = 300
_MARGIN: Final = 45
_LARGEST: Final = 9  # radius of the fullest bin; areas are in proportion to pictures
_TICKS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


def diagram(bins: Sequence[ReliabilityBin]) -> str:
    """A point per bin, the larger the more pictures; on the diagonal, confidence is what it says."""
    whole = _SIDE + 2 * _MARGIN
    return (
        f'<svg role="img" aria-label="Reliability diagram; the table below has its numbers" '
        f'viewBox="0 0 {whole} {whole}" width="{whole}" height="{whole}" font-size="12" fill="currentColor">'
        f"{_axes()}{_points(bins)}</svg>"
    )


def _x(share: float) -> str:
    return f"{_MARGIN + share * _SIDE:.1f}"


def _y(share: float) -> str:
    return f"{_MARGIN + (1 - share) * _SIDE:.1f}"


def _axes() -> str:
    ticks = "".join(
        f'<text x="{_x(tick)}" y="{_MARGIN + _SIDE + 16}" text-anchor="middle">{tick:g}</text>'
        f'<text x="{_MARGIN - 6}" y="{float(_y(tick)) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in _TICKS
    )
    middle = _MARGIN + _SIDE / 2
    return (
        f'<g fill="none" stroke="currentColor" stroke-opacity=".5">'
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_SIDE}" height="{_SIDE}"/>'
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke-dasharray="4 4"/></g>{ticks}'
        f'<text x="{middle}" y="{_MARGIN + _SIDE + 36}" text-anchor="middle">confidence</text>'
        f'<text x="{_MARGIN - 34}" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 {_MARGIN - 34} {middle})">accuracy</text>'
    )


def _points(bins: Sequence[ReliabilityBin]) -> str:
    fullest = max(each.pictures for each in bins)
    return "".join(
        f'<circle cx="{_x(each.confidence)}" cy="{_y(each.accuracy)}" fill-opacity=".7" '
        f'r="{_LARGEST * (each.pictures / fullest) ** 0.5:.1f}"><title>confidence {each.confidence:.1%}, '
        f"accuracy {each.accuracy:.1%}, {each.pictures:,} pictures</title></circle>"
        for each in bins
    )
