"""What the processor offers a training, and how TensorFlow is told to use it."""

import os
import platform
from pathlib import Path

from app.processor import CPU_INFO


def has_bfloat16(flags: frozenset[str]) -> bool:
    """Whether convolutions in bfloat16 run in hardware (AVX-512 BF16 or AMX)."""
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def use_onednn() -> None:
    """Lets TensorFlow compute with oneDNN on every processor; to be called before TensorFlow is imported.

    By itself TensorFlow does so only where the processor has instructions made for networks. With AVX2 alone,
    oneDNN's matrix products are up to twice as fast as Eigen's, and it keeps memory that would otherwise be
    asked for again in every step.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def use_bfloat16(enabled: bool) -> None:
    """Lets TensorFlow compute convolutions and matrix products in bfloat16 from now on, or no more.

    Variables and batch-norm statistics stay float32. It holds for all that runs, whenever that was made.
    """
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": enabled})


def processor_name(cpu_info: Path = CPU_INFO) -> str:
    """The model name that the system gives, else the architecture."""
    try:
        lines = cpu_info.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
