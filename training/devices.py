"""What a training runs on: one processor, the GPUs of a machine, or several machines, and in which precision.

Several devices learn in step (data parallel): each takes its share of every batch, and gradients and
batch-norm statistics are summed over all of them before anything changes, so their weights stay equal.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.errors import DevicesError

FLOAT32, FLOAT16, BFLOAT16 = "float32", "mixed_float16", "mixed_bfloat16"
CLUSTER = "TF_CONFIG"  # TensorFlow's own: a JSON object with all machines and which of them this is

Share = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Devices:
    """``strategy`` is None for one device, which TensorFlow chooses itself."""

    strategy: Any = None
    policy: str = FLOAT32
    gpus: tuple[str, ...] = ()

    @classmethod
    def found(cls) -> "Devices":
        """All machines of ``TF_CONFIG``, or all GPUs of this one; must come before TensorFlow is used."""
        strategy = tf.distribute.MultiWorkerMirroredStrategy() if os.environ.get(CLUSTER) else None
        details = [
            tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")
        ]
        if strategy is None and len(details) > 1:
            strategy = tf.distribute.MirroredStrategy()
        policy = precision([each.get("compute_capability", (0, 0)) for each in details])
        if strategy is not None and policy == FLOAT16:
            policy = FLOAT32  # each device would scale its loss as it likes
        return cls(strategy, policy, tuple(each.get("device_name", "unnamed") for each in details))

    @property
    def replicas(self) -> int:
        """How many devices share a batch, on all machines together."""
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    @property
    def several_machines(self) -> bool:
        return bool(self._place and self._place.task_type)

    @property
    def is_chief(self) -> bool:
        """Whether this machine writes checkpoints and publishes."""
        place = self._place
        if not place or not place.task_type:
            return True
        if "chief" in place.cluster_spec().jobs:
            return bool(place.task_type == "chief")
        return bool(place.task_id == 0)

    @property
    def _place(self) -> Any:
        """This machine among all."""
        return self.strategy and self.strategy.cluster_resolver

    @contextmanager
    def building(self) -> Iterator[None]:
        """In here networks and optimizers are made for these devices, in their precision."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.policy)
        try:
            with self.strategy.scope() if self.strategy else nullcontext():
                yield
        finally:
            keras.config.set_dtype_policy(before)

    def function(self, step: Callable[..., Share]) -> Callable[..., Share]:
        """``step`` as a graph that runs on every device with its share and returns what all agree on.

        There is one for each size of the pictures: convolutions are chosen by a size that is known.
        """
        if not self.strategy:
            alone: Callable[..., Share] = tf.function(step)
            return alone
        everywhere = tf.function(lambda *share: self.strategy.run(step, args=share))
        return lambda *share: tuple(
            self.strategy.experimental_local_results(result)[0] for result in everywhere(*share)
        )

    def distribute(self, make: Callable[[int], Share], parts: int) -> Share:
        """The ``parts`` that ``make`` gives for the number of each device that is here, for `function`."""
        if not self.strategy:
            return make(0)
        made = cache(make)
        place = self.strategy.experimental_distribute_values_from_function

        def part_of(number: int) -> Any:
            return place(lambda context: made(context.replica_id_in_sync_group)[number])

        return tuple(map(part_of, range(parts)))

    def placed(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """The same inside a step, each on the step's device; what has no device cannot be summed."""
        if not self.strategy:
            return values
        number = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        local = self.strategy.extended.worker_devices
        with tf.device(local[int(number) % len(local)]):
            return [tf.identity(value) for value in values]

    def total(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Inside a step: their sums over all devices."""
        if not self.strategy:
            return values
        reduce = tf.distribute.get_replica_context().all_reduce
        return list(reduce(tf.distribute.ReduceOp.SUM, self.placed(values)))

    def from_chief(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """The chief's arrays on every machine; all of them must ask, and wait until all do."""
        if not self.strategy:
            return arrays

        # All as float64, exact for float32 and whole numbers: values of one kind are summed in one message.
        def share(device: int) -> Share:
            known = (array if device == 0 else np.zeros_like(array) for array in arrays)
            return tuple(tf.constant(array, tf.float64) for array in known)

        total = self.function(lambda *values: tuple(self.total(list(values))))
        sums = total(*self.distribute(share, len(arrays)))
        return [value.numpy().astype(array.dtype) for value, array in zip(sums, arrays, strict=True)]


ONE_DEVICE = Devices()


@contextmanager
def all_machines(devices: Devices) -> Iterator[None]:
    """Tells in a sentence when another machine leaves the training that goes on in here.

    Raises:
        DevicesError: it did.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if not devices.several_machines:
            raise
        raise DevicesError(
            f"another machine of this training is gone ({error.message.splitlines()[0][:200]}). Start the "
            "same command on all of them again; they go on from the chief's checkpoint."
        ) from error


def precision(capabilities: list[tuple[int, int]]) -> str:
    """The Keras policy for GPUs of these compute capabilities: what the weakest computes fast."""
    if not capabilities:
        return FLOAT32
    if min(capabilities) >= (8, 0):
        return BFLOAT16
    return FLOAT16 if min(capabilities) >= (7, 0) else FLOAT32
