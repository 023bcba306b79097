"""Images per second of a training step, ours and Keras's, in turn on the same cores.

    python benchmarks/training_speed.py --rounds 5

Each variant takes one step per round, so that a machine that slows down slows all of them alike. The median
counts.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from training import resnet
from training.fit import Trainer
from training.normalization import FusedBatchNormalization
from training.processor import (
    available_cores,
    has_bfloat16,
    has_wide_vectors,
    processor_flags,
    processor_name,
    use_bfloat16,
)
from training.recipe import SEED
from training.split import Pictures
from training.winograd import WinogradConv2D


@dataclass(frozen=True)
class Variant:
    """One way to build the same network."""

    name: str
    convolution: resnet.Convolution
    normalization: type[keras.layers.Layer]
    bfloat16: bool = False


VARIANTS = (
    Variant("Keras layers, float32", keras.layers.Conv2D, keras.layers.BatchNormalization),
    Variant("+ fused batch norm", keras.layers.Conv2D, FusedBatchNormalization),
    Variant("+ Winograd's convolutions", WinogradConv2D, FusedBatchNormalization),
    Variant("fused batch norm, bfloat16", keras.layers.Conv2D, FusedBatchNormalization, bfloat16=True),
)


def stepper(variant: Variant, size: int, batch: int) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds; the first call has been made."""
    keras.utils.set_random_seed(0)
    use_bfloat16(variant.bfloat16)
    network = resnet.resnet18(
        image_size=size, convolution=variant.convolution, normalization=variant.normalization
    )
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    to_logits = keras.Model(network.input, network.get_layer("logits").output)
    pictures = Pictures(images, np.arange(batch) % 10)
    trainer = Trainer(to_logits, SEED, pictures)
    images_float = images.astype(np.float32)

    def step() -> float:
        began = time.perf_counter()
        trainer.learn(images_float, pictures.labels)
        return time.perf_counter() - began

    step()
    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32, help="picture side in pixels (default 32)")
    parser.add_argument("--batch", type=int, default=128, help="pictures per step (default 128)")
    options = parser.parse_args()
    flags = processor_flags()
    fits = [variant for variant in VARIANTS if has_bfloat16(flags) or not variant.bfloat16]
    steppers = [stepper(variant, options.size, options.batch) for variant in fits]
    seconds = [[step() for step in steppers] for _ in range(options.rounds)]
    medians = [statistics.median(column) for column in zip(*seconds, strict=True)]
    chosen = "Keras's" if has_wide_vectors(flags) else "the fast"
    print(f"{processor_name()}, {available_cores()} cores, batch {options.batch} at {options.size} px")
    print(f"training here uses {chosen} gradient, {'bfloat16' if has_bfloat16(flags) else 'float32'}")
    for variant, median in zip(fits, medians, strict=True):
        rate = options.batch / median
        print(f"{variant.name:<28} {rate:6.1f} images/s  {medians[0] / median:5.2f} times Keras")


if __name__ == "__main__":
    main()
