"""Images per second of a training step, ours and Keras's, and of augmentation, in turn on the same cores.

    python benchmarks/training_speed.py --size 24 --rounds 5

Each variant takes one step per round, and each recipe augments one batch, so that a machine that slows down
slows all of them alike. The median counts. Augmentation comes before a step and shares no time with it.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as training does; 0 measures without it

import keras
import numpy as np

from app import processor
from app.cores import available_cores
from training import resnet
from training.augment import augmenter
from training.fit import Trainer
from training.normalization import FusedBatchNormalization
from training.processor import (
    has_bfloat16,
    processor_name,
    use_bfloat16,
)
from training.recipe import FULL, QUICK, SEED, Recipe
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
    Variant("+ Winograd's, bfloat16", WinogradConv2D, FusedBatchNormalization, bfloat16=True),
)


def stepper(variant: Variant, size: int, batch: int) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds; the first call has been made."""
    keras.utils.set_random_seed(0)
    network = resnet.resnet18(
        image_size=size, convolution=variant.convolution, normalization=variant.normalization
    )
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    to_logits = keras.Model(network.input, network.get_layer("logits").output)
    pictures = Pictures(images, np.arange(batch) % 10)
    trainer = Trainer(to_logits, SEED, pictures)
    images_float = images.astype(np.float32)

    def step() -> float:
        use_bfloat16(variant.bfloat16)  # it holds for what runs, whatever held when that was made
        began = time.perf_counter()
        trainer.learn(images_float, pictures.labels)
        return time.perf_counter() - began

    step()
    return step


def augmenting(recipe: Recipe, size: int, batch: int) -> Callable[[], float]:
    """A function that augments one batch as the recipe does at ``size`` and returns its seconds."""
    phase = next((phase for phase in recipe.phases if phase.image_size == size), recipe.phases[-1])
    augment = augmenter(recipe, phase)
    side = recipe.phases[-1].image_size
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)

    def once() -> float:
        began = time.perf_counter()
        augment(images, 0).numpy()
        return time.perf_counter() - began

    once()
    return once


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32, help="picture side in pixels (default 32)")
    parser.add_argument("--batch", type=int, default=128, help="pictures per step (default 128)")
    options = parser.parse_args()
    flags = processor.flags()
    fits = [variant for variant in VARIANTS if has_bfloat16(flags) or not variant.bfloat16]
    augmented = [recipe.at_size(options.size) if options.size > 32 else recipe for recipe in (QUICK, FULL)]
    timed = [stepper(variant, options.size, options.batch) for variant in fits]
    timed += [augmenting(recipe, options.size, options.batch) for recipe in augmented]
    seconds = [[once() for once in timed] for _ in range(options.rounds)]
    medians = [statistics.median(column) for column in zip(*seconds, strict=True)]
    steps, augmentations = medians[: len(fits)], medians[len(fits) :]
    print(f"{processor_name()}, {available_cores()} cores, batch {options.batch} at {options.size} px")
    for variant, median in zip(fits, steps, strict=True):
        rate = options.batch / median
        print(f"{variant.name:<28} {rate:8.1f} images/s  {steps[0] / median:5.2f} times Keras")
    for recipe, median in zip(augmented, augmentations, strict=True):
        share = median / (median + min(steps))
        named = f"augmentation of {recipe.name}"
        print(f"{named:<28} {options.batch / median:8.1f} images/s  {share:6.1%} of a step of the fastest")


if __name__ == "__main__":
    main()
