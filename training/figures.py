"""Measurements for the manifest, from what one engine said about labelled pictures."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.engines import Engine, Prediction
from app.manifest import Calibration, Evaluation, Measurement, ReliabilityBin
from training.calibration import label_sets, sharpened
from training.evaluation import Encode, auroc, bins_of_equal_mass, evaluate, png, predict
from training.photographs import OTHER, Photographs

PHOTOGRAPHS = "photographs of the classes"
OTHERS = "photographs of other things"


@dataclass(frozen=True)
class Scribe:
    """Writes down figures of one engine."""

    engine: str
    precision: str

    @classmethod
    def of(cls, engine: Engine) -> "Scribe":
        return cls(engine.name, engine.precision)

    def note(self, metric: str, data: str, value: float, pictures: int) -> Measurement:
        return Measurement(
            metric=metric,
            data=data,
            value=value,
            pictures=pictures,
            engine=self.engine,
            precision=self.precision,
        )

    def clean(
        self, data: str, prediction: Prediction, labels: NDArray[np.int64], calibration: Calibration
    ) -> list[Measurement]:
        """How often it is right, and what its probabilities, sets and score are worth."""
        found = evaluate(prediction.probabilities, labels)
        figures = {"accuracy": found.accuracy, "nll": found.loss, "ece": found.calibration_error}
        if calibration.temperature != 1.0:
            before = evaluate(sharpened(prediction.probabilities, calibration.temperature), labels)
            figures |= {"nll_uncalibrated": before.loss, "ece_uncalibrated": before.calibration_error}
        for each in calibration.conformal_thresholds:
            members = label_sets(prediction.probabilities, each.threshold)
            figures[f"coverage_{each.coverage:g}"] = float(members[np.arange(len(labels)), labels].mean())
            figures[f"set_size_{each.coverage:g}"] = float(members.sum(axis=1).mean())
        if calibration.ood_threshold is not None:
            figures["in_distribution"] = float(np.mean(prediction.ood_score <= calibration.ood_threshold))
        return [self.note(metric, data, value, len(labels)) for metric, value in figures.items()]

    def accuracy(
        self,
        data: str,
        engine: Engine,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        encode: Encode = png,
    ) -> Measurement:
        """How often it is right on pictures uint8 ``[N, H, W, 3]``, each sent as ``encode`` writes it."""
        answers = predict(engine, images, encode).probabilities.argmax(axis=1)
        return self.note("accuracy", data, float(np.mean(answers == labels)), len(labels))

    def photographed(
        self, photographs: Photographs, said: Prediction, of_test: Prediction, calibration: Calibration
    ) -> Iterator[Measurement]:
        """Accuracy on those of the classes, and how well the score tells those of other things apart."""
        known = photographs.labels != OTHER
        groups = {name: rows for name, rows in ((PHOTOGRAPHS, known), (OTHERS, ~known)) if rows.any()}
        if PHOTOGRAPHS in groups:
            right = said.probabilities[known].argmax(axis=1) == photographs.labels[known]
            yield self.note("accuracy", PHOTOGRAPHS, float(right.mean()), len(right))
        if OTHERS in groups:
            familiar = {"test pictures": of_test.ood_score}
            familiar |= {name: said.ood_score[rows] for name, rows in groups.items() if name != OTHERS}
            unfamiliar = said.ood_score[~known]
            for name, scores in familiar.items():
                yield self.note(
                    "ood_auroc", f"{OTHERS}, against {name}", auroc(unfamiliar, scores), len(unfamiliar)
                )
        if calibration.ood_threshold is not None:
            passing = said.ood_score <= calibration.ood_threshold
            for name, rows in groups.items():
                yield self.note("in_distribution", name, float(passing[rows].mean()), int(rows.sum()))

    def in_detail(self, data: str, prediction: Prediction, labels: NDArray[np.int64]) -> Evaluation:
        """The confusion matrix and the reliability diagram."""
        return Evaluation(
            data=data,
            engine=self.engine,
            precision=self.precision,
            confusion=confusion(prediction.probabilities, labels),
            reliability=reliability(prediction.probabilities, labels),
        )


def confusion(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """How many pictures of each class (row) were called each class (column)."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels * classes + probabilities.argmax(axis=1), minlength=classes**2)
    return tuple(tuple(row) for row in counts.reshape(classes, classes).tolist())


def reliability(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[ReliabilityBin, ...]:
    """The bins of the expected calibration error, ascending by confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    return tuple(
        ReliabilityBin(
            confidence=min(1.0, float(confidence[part].mean())),
            accuracy=float(right[part].mean()),
            pictures=len(part),
        )
        for part in bins_of_equal_mass(confidence)
    )
