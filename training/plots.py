"""Plots of a report, as SVG to stand inside a page."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.manifest import ReliabilityBin
from training.history import Epoch

INK, BLUE, ORANGE, GREY = "#1c2733", "#1f5fa8", "#c2571a", "#8a94a0"
STYLE: dict[Any, Any] = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text, in the letters of the page
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def learning_curves(epochs: Sequence[Epoch]) -> str:
    """Loss and accuracy by epoch, with the size of the pictures shaded behind them."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        numbers = [each.number for each in epochs]
        for axes, label, values in (
            (left, "loss, nats", [each.loss for each in epochs]),
            (right, "accuracy, %", [100 * each.accuracy for each in epochs]),
        ):
            _shade_sizes(axes, epochs)
            axes.plot(numbers, values, color=BLUE, marker="o", markersize=3.5)
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            axes.xaxis.get_major_locator().set_params(integer=True)
        return _svg(figure, "curves")


def _shade_sizes(axes: Axes, epochs: Sequence[Epoch]) -> None:
    sizes = sorted({each.image_size for each in epochs})
    for each in epochs:
        shade = 0.04 + 0.14 * sizes.index(each.image_size) / max(1, len(sizes) - 1)
        axes.axvspan(each.number - 0.5, each.number + 0.5, color=GREY, alpha=shade, linewidth=0)
    for size in sizes:
        first = min(each.number for each in epochs if each.image_size == size)
        axes.text(
            first - 0.4, 1.01, f"{size} px", transform=axes.get_xaxis_transform(), fontsize=9, color=INK
        )


def confusion_matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Rows are what pictures show, columns what they were called, in per cent of the row."""
    values = np.array(counts, float)
    shares = 100 * values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 5.8), layout="constrained")
        axes = figure.subplots()
        # A few per cent of mistakes are what matters, so the scale is not linear.
        axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=10)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("called")
        axes.set_ylabel("shows")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if len(names) <= 20:
            for (row, column), share in np.ndenumerate(shares):
                colour = "white" if share > 40 else INK
                text = f"{share:.1f}" if share else ""
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
        return _svg(figure, "confusion")


def reliability_diagram(curves: Mapping[str, Sequence[ReliabilityBin]]) -> str:
    """Accuracy by confidence; each point holds equally many pictures, and on the line it keeps its word."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle="--")
        styles = ((ORANGE, "s"), (BLUE, "o")) if len(curves) > 1 else ((BLUE, "o"),)
        for (label, bins), (colour, marker) in zip(curves.items(), styles, strict=True):
            axes.plot(
                [100 * each.confidence for each in bins],
                [100 * each.accuracy for each in bins],
                color=colour,
                marker=marker,
                markersize=4.5,
                label=label,
            )
        lowest = min(min(each.confidence, each.accuracy) for bins in curves.values() for each in bins)
        axes.set_xlim(100 * lowest - 3, 101)
        axes.set_ylim(100 * lowest - 3, 101)
        axes.set_xlabel("mean confidence, %")
        axes.set_ylabel("share that is right, %")
        axes.legend(loc="lower right")
        return _svg(figure, "reliability")


def bars(values: dict[str, float], reference: float) -> str:
    """Accuracies in per cent, one bar each, and a line where undisturbed pictures stand."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 0.27 * len(values) + 0.9), layout="constrained")
        axes = figure.subplots()
        names = list(values)[::-1]
        shares = [100 * values[name] for name in names]
        axes.barh(names, shares, color=BLUE, height=0.7)
        for place, share in enumerate(shares):
            axes.text(share - 0.8, place, f"{share:.1f}", ha="right", va="center", color="white", fontsize=9)
        axes.axvline(100 * reference, color=ORANGE, linewidth=1.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy, %")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return _svg(figure, "bars")


def _svg(figure: Figure, salt: str) -> str:
    """Without what belongs to a file of its own; the salt keeps ids of several plots on one page apart."""
    text = StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
