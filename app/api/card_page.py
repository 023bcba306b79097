"""The card of a version as a page."""

import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from app.api import reliability
from app.api.version_card import VersionCard
from app.manifest import Evaluation

_NOT_MEASURED: Final = "<p>Not measured.</p>"
_SHADES: Final = (0.01, 0.05, 0.2, 0.5)  # shares of a row from which on a cell is darker


def body(card: VersionCard) -> Iterator[str]:
    """HTML, part by part; every word that comes from the manifest is escaped."""
    yield f"<p>Published on {card.created:%Y-%m-%d at %H:%M} UTC. Takes {_size(card)} pixels.</p>"
    yield f"<p>Weights: sha256 <code>{card.weights or 'unknown'}</code></p>"
    yield "<h2>Measured</h2>" + _measurements(card)
    yield "<h2>Classes</h2>" + _classes(card)
    yield "<h2>Confusion</h2>" + (_confusion(card.class_names, card.evaluation) or _NOT_MEASURED)
    yield "<h2>Reliability</h2>" + _reliability(card.evaluation)
    yield "<h2>Calibration</h2>" + _calibration(card)
    yield "<h2>Lineage</h2>" + _json(card.lineage)
    yield "<h2>Files</h2>" + _files(card)


def _size(card: VersionCard) -> str:
    return f"{card.input.width} x {card.input.height}"


def _measurements(card: VersionCard) -> str:
    head = ("metric", "data", "value", "pictures", "engine", "precision")
    rows = [
        (each.metric, each.data, f"{each.value:.4g}", f"{each.pictures:,}", each.engine, each.precision)
        for each in card.measurements
    ]
    return _table(head, rows) if rows else _NOT_MEASURED


def _classes(card: VersionCard) -> str:
    if card.classes is None:
        return _NOT_MEASURED
    rows = [
        (each.label, f"{each.pictures:,}", _percent(each.recall), _percent(each.precision))
        for each in card.classes
    ]
    return _table(("class", "pictures", "called so (recall)", "right when called so (precision)"), rows)


def _confusion(names: Sequence[str], evaluation: Evaluation | None) -> str:
    """A row per class of the truth, a column per answer, darker where there are more."""
    if evaluation is None:
        return ""
    rows = []
    for name, counts in zip(names, evaluation.confusion, strict=True):
        cells = "".join(f'<td class="share{_shade(count, sum(counts))}">{count}</td>' for count in counts)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("truth \\ answer", *names))
    return f"{_source(evaluation)}<div class='wide'><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _shade(count: int, of: int) -> int:
    return sum(count >= share * of for share in _SHADES) if count else 0


def _reliability(evaluation: Evaluation | None) -> str:
    if evaluation is None or not evaluation.reliability:
        return _NOT_MEASURED
    rows = [
        (f"{each.confidence:.1%}", f"{each.accuracy:.1%}", f"{each.pictures:,}")
        for each in evaluation.reliability
    ]
    table = _table(("confidence", "accuracy", "pictures"), rows)
    return _source(evaluation) + reliability.diagram(evaluation.reliability) + table


def _source(evaluation: Evaluation) -> str:
    return f"<p>{escape(f'{evaluation.data}, {evaluation.engine}, {evaluation.precision}')}</p>"


def _calibration(card: VersionCard) -> str:
    calibration = card.calibration
    sets = [(f"{each.coverage:g}", f"{each.threshold:.4g}") for each in calibration.conformal_thresholds]
    known = calibration.ood_threshold
    threshold = "none, so <code>in_distribution</code> is null" if known is None else f"{known:.4g}"
    return (
        f"<p>Temperature, which is inside the model: {calibration.temperature:g}. Threshold of "
        f"<code>ood_score</code>: {threshold}.</p>"
    ) + (
        _table(("coverage of the set", "labels of at least this probability"), sets)
        if sets
        else "<p>No thresholds for confidence sets: <code>confidence_set</code> is null.</p>"
    )


def _files(card: VersionCard) -> str:
    rows = [(name, f"{file.bytes:,}", file.sha256) for name, file in card.files.items()]
    return _table(("file", "bytes", "sha256"), rows)


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """The first cell of a row names it."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    lines = (
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in rows
    )
    return f"<div class='wide'><table><tr>{titles}</tr>{''.join(lines)}</table></div>"


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
