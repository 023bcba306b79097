"""What became of a training, as one page that needs nothing beside it and reads well on paper."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from app.manifest import Manifest, Measurement
from training import plots
from training.assessment import CORRUPTED, ENLARGED, SEVERITY, UNDISTURBED, Assessment, corruption
from training.calibration import sharpened
from training.corruption import CORRUPTIONS
from training.evaluation import png
from training.figures import reliability
from training.history import Epoch

STYLE = Path(__file__).with_name("report.css")
MISTAKES = 32


def write_report(
    path: Path, manifest: Manifest, assessment: Assessment, epochs: Sequence[Epoch] = ()
) -> None:
    """Writes the page about a version and what was measured of it; ``epochs`` draw its learning curves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(manifest, assessment, epochs), encoding="utf-8")


def page(manifest: Manifest, assessment: Assessment, epochs: Sequence[Epoch] = ()) -> str:
    """The page as HTML."""
    title = f"{manifest.name}, version {manifest.version}"
    sections = (
        _headline(manifest, assessment),
        _learning(epochs),
        _classes(manifest, assessment),
        _confidence(manifest, assessment),
        _disturbed(assessment),
        _unfamiliar(manifest, assessment),
        _mistakes(manifest, assessment),
        _engines(assessment),
        _lineage(manifest),
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n" + "\n".join(filter(None, sections)) + "\n</body>\n</html>\n"
    )


def _headline(manifest: Manifest, assessment: Assessment) -> str:
    served, found = assessment.evaluation, _Found(assessment)
    pictures = len(assessment.pictures)
    boxes = [
        (found.share("accuracy"), f"of {pictures:,} test pictures right"),
        (found.share("ece"), "calibration error (15 bins)"),
        (found.share("accuracy", CORRUPTED), f"right after corruption, mean of {len(CORRUPTIONS)}"),
        (found.share("accuracy", ENLARGED), "right as enlarged JPEG"),
        (_hours(manifest), "training"),
    ]
    items = "".join(f"<li><b>{value}</b><span>{label}</span></li>" for value, label in boxes if value)
    created = f"{manifest.created:%Y-%m-%d %H:%M} UTC"
    return (
        f'<p class="soft">Published {created}. Unless said otherwise, figures are of {escape(served.engine)} '
        f"{escape(served.precision)}, the engine that a service would choose here, on {escape(served.data)}, "
        f'through the code that serves.</p>\n<ul class="headline">{items}</ul>'
    )


def _hours(manifest: Manifest) -> str:
    hours = manifest.lineage.get("hours")
    return f"{hours:.1f} h" if isinstance(hours, float) else ""


def _learning(epochs: Sequence[Epoch]) -> str:
    if not epochs:
        return ""
    caption = (
        "Means over the augmented pictures of each epoch, while it went on learning; shaded by their size."
    )
    return _section("How it learnt", _figure(plots.learning_curves(epochs), caption))


def _classes(manifest: Manifest, assessment: Assessment) -> str:
    counts = np.array(assessment.evaluation.confusion)
    rows = []
    for index, name in enumerate(manifest.class_names):
        shows, called, right = counts[index].sum(), counts[:, index].sum(), counts[index, index]
        wrong = counts[index] - np.where(np.arange(len(counts)) == index, right, 0)
        often = f"{manifest.class_names[wrong.argmax()]} ({wrong.max():,})" if wrong.any() else "nothing"
        rows.append((name, f"{shows:,}", _percent(right, shows), _percent(right, called), often))
    table = _table(
        ("class", "pictures", "of them right", "of those called so", "most often taken for"), rows, 1, 4
    )
    matrix = plots.confusion_matrix(assessment.evaluation.confusion, manifest.class_names)
    caption = (
        "In per cent of the pictures of each class. The colours grow with the root, so that mistakes show."
    )
    return _section("What it gets right", table + _figure(matrix, caption))


def _confidence(manifest: Manifest, assessment: Assessment) -> str:
    found, temperature = _Found(assessment), manifest.calibration.temperature
    probabilities, labels = assessment.prediction.probabilities, assessment.pictures.labels
    curves = {"as published": assessment.evaluation.reliability}
    rows = [("as published", found.share("ece"), found.number("nll"))]
    text = (
        "No pictures were held out, so the temperature is 1: the probabilities are as the training left them."
    )
    if temperature != 1.0:
        curves = {"before": reliability(sharpened(probabilities, temperature), labels), **curves}
        uncalibrated = found.share("ece_uncalibrated"), found.number("nll_uncalibrated")
        rows.insert(0, ("before", *uncalibrated))
        text = f"The logits are divided by {temperature:.3f}, which held-out pictures decided."
    table = _table(("", "calibration error", "loss, nats"), rows, 1, 3)
    caption = "Each point is a fifteenth of the test pictures. On the dashed line, confidence keeps its word."
    figure = _figure(plots.reliability_diagram(curves), caption)
    return _section("How far it can be believed", f"<p>{text}</p>" + table + figure + _sets(manifest, found))


def _sets(manifest: Manifest, found: "_Found") -> str:
    rows = [
        (
            f"{each.coverage:.0%}",
            f"{each.threshold:.4f}",
            found.share(f"coverage_{each.coverage:g}"),
            found.number(f"set_size_{each.coverage:g}"),
        )
        for each in manifest.calibration.conformal_thresholds
    ]
    if not rows:
        return ""
    heads = ("sets that should hold the truth", "labels from a probability of", "did hold it", "mean size")
    return _table(heads, rows, 1, 4)


def _disturbed(assessment: Assessment) -> str:
    found = _Found(assessment)
    values = {
        name.replace("_", " "): value
        for name in CORRUPTIONS
        if (value := found.value("accuracy", corruption(name))) is not None
    }
    reference = found.value("accuracy", UNDISTURBED)
    if not values or reference is None:
        return ""
    text = (
        f"Fifteen corruptions at severity {SEVERITY} of 5, after Hendrycks and Dietterich 2019, in an "
        f"implementation of its own: {found.share('accuracy', CORRUPTED)} on average. The same pictures "
        f"{ENLARGED}: {found.share('accuracy', ENLARGED)}."
    )
    caption = f"The line is where the same pictures stand undisturbed: {100 * reference:.1f} %."
    return _section("What disturbs it", f"<p>{text}</p>" + _figure(plots.bars(values, reference), caption))


def _unfamiliar(manifest: Manifest, assessment: Assessment) -> str:
    words = {
        "accuracy": "share that is right",
        "in_distribution": "share that passes as one of the classes",
        "ood_auroc": "AUROC of the OOD score",
    }
    rows = [
        (words[each.metric], each.data, f"{each.value:.3f}", f"{each.pictures:,}")
        for each in _Found(assessment).beyond()
        if each.metric in words
    ]
    if not rows:
        return ""
    threshold = manifest.calibration.ood_threshold
    text = (
        "No pictures were held out, so there is no bound on the OOD score."
        if threshold is None
        else f"A score above {threshold:.3f} says that a picture may be none of the classes."
    )
    table = _table(("figure", "on", "value", "pictures"), rows, 2, 4)
    return _section("Beyond the data set", f"<p>{text}</p>" + table)


def _mistakes(manifest: Manifest, assessment: Assessment) -> str:
    probabilities, labels = assessment.prediction.probabilities, assessment.pictures.labels
    answers, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(answers != labels)
    items = []
    for row in wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]:
        image = base64.b64encode(png(assessment.pictures.images[row])).decode("ascii")
        truth, answer = (escape(manifest.class_names[index]) for index in (labels[row], answers[row]))
        items.append(
            f'<li><img alt="test picture {row}" src="data:image/png;base64,{image}">'
            f"{answer}, {confidence[row]:.1%}<br>"
            f'<span class="soft">is {truth}</span></li>'
        )
    if not items:
        return ""
    text = (
        "The mistakes that it was surest of, as the network saw them: what it called them, and what they are."
    )
    return _section("Its most confident mistakes", f'<p>{text}</p><ul class="mistakes">{"".join(items)}</ul>')


def _engines(assessment: Assessment) -> str:
    rows = [
        (f"{each.engine} {each.precision}", each.metric, each.data, f"{each.value:.4f}", f"{each.pictures:,}")
        for each in assessment.measurements
    ]
    heads = ("engine", "metric", "on", "value", "pictures")
    return _section("Every figure", _table(heads, rows, 3, 5))


def _lineage(manifest: Manifest) -> str:
    rows = [(name, text) for name, text in _flattened(manifest.lineage)]
    return _section("How it came to be", _table(("", ""), rows, 2, 2))


def _flattened(values: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


class _Found:
    """The measurements of the engine that a service would choose."""

    def __init__(self, assessment: Assessment) -> None:
        served = assessment.evaluation
        self._clean = served.data
        self._measurements: list[Measurement] = [
            each
            for each in assessment.measurements
            if (each.engine, each.precision) == (served.engine, served.precision)
        ]

    def value(self, metric: str, disturbance: str = "") -> float | None:
        """On the test pictures, clean or with what the final evaluation calls it."""
        data = f"{self._clean}, {disturbance}" if disturbance else self._clean
        matching = (each.value for each in self._measurements if (each.metric, each.data) == (metric, data))
        return next(matching, None)

    def beyond(self) -> Iterator[Measurement]:
        """On other than test pictures, and what says how many of those are taken for familiar."""
        for each in self._measurements:
            if not each.data.startswith(self._clean) or each.metric == "in_distribution":
                yield each

    def share(self, metric: str, disturbance: str = "") -> str:
        value = self.value(metric, disturbance)
        return "" if value is None else f"{100 * value:.2f} %"

    def number(self, metric: str) -> str:
        value = self.value(metric)
        return "" if value is None else f"{value:.3f}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], first: int, last: int) -> str:
    """Columns ``first`` to ``last``, without it, hold numbers."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        kinds = ["number" if first <= place < last else "text" for place in range(len(texts))]
        return "".join(
            f'<{tag} class="{kind}">{escape(text)}</{tag}>' for kind, text in zip(kinds, texts, strict=True)
        )

    head = f"<thead><tr>{cells('th', heads)}</tr></thead>" if any(heads) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'
