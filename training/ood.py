"""How unfamiliar a picture is, from the features in front of the last layer: the second output of a version.

The Mahalanobis distance to the nearest class (Lee et al. 2018, https://arxiv.org/abs/1807.03888) between
features of unit length (Mueller & Hein 2025, https://arxiv.org/abs/2505.18032). A trained network leaves next
to nothing of its classes' variance in most directions, so the covariance is shrunk towards a sphere before it
is inverted. docs/training.md has the pilot that chose this over energy, ViM and nearest neighbours.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

SAMPLE = 5_000  # training pictures to fit to; 1,000 gave nearly the same
SHRINKAGE = 2 / 3  # of the way to a sphere; from a half to five sixths made no difference
SMALLEST = 1e-12  # variance, for features that never change


@dataclass(frozen=True, eq=False)
class FamiliarFeatures:
    """Where training pictures lie: `whitening` [D, D] makes distances, `means` [classes, D] are whitened."""

    whitening: NDArray[np.float32]
    means: NDArray[np.float32]
    scale: float


class MahalanobisScore(tf.Module):
    """Maps features float32 ``[N, D]`` to scores ``[N]``; 1 is the mean over training pictures.

    Distances are sums of squared differences, without the matrix product that would be faster: it loses the
    small difference of large numbers where an engine computes in bfloat16.
    """

    def __init__(self, familiar: FamiliarFeatures) -> None:
        super().__init__()
        self._whitening = tf.Variable(familiar.whitening, trainable=False)
        self._means = tf.Variable(familiar.means[np.newaxis], trainable=False)
        self._scale = familiar.scale

    def __call__(self, features: tf.Tensor) -> tf.Tensor:
        whitened = tf.matmul(tf.math.l2_normalize(features, axis=1), self._whitening)
        squared = tf.reduce_sum(tf.square(whitened[:, tf.newaxis] - self._means), axis=2)
        return tf.reduce_min(squared, axis=1) / self._scale


def fit(features: NDArray[np.float32], labels: NDArray[np.int64]) -> FamiliarFeatures:
    """From features ``[N, D]`` of training pictures with labels ``[N]``, of which no class need be there."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features.astype(np.float64) / np.maximum(lengths, SMALLEST)
    classes, of_class = np.unique(labels, return_inverse=True)
    means = np.stack([directions[of_class == index].mean(axis=0) for index in range(len(classes))])
    inside = directions - means[of_class]
    covariance = inside.T @ inside / len(inside)
    variance = max(float(np.trace(covariance)) / len(covariance), SMALLEST)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * variance * np.eye(len(covariance))
    whitening = np.linalg.inv(np.linalg.cholesky(shrunk)).T
    nearest = _squared_distances(directions @ whitening, means @ whitening).min(axis=1)
    scale = max(float(nearest.mean()), SMALLEST)
    return FamiliarFeatures(whitening.astype(np.float32), (means @ whitening).astype(np.float32), scale)


def _squared_distances(points: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[N, classes]`` between ``[N, D]`` and ``[classes, D]``."""
    distances = [np.sum(np.square(points - mean), axis=1) for mean in means]
    return np.stack(distances, axis=1)
