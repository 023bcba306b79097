"""CIFAR-10 archives in the standard form with made-up pictures: class k is a flat colour with some noise."""

import gzip
import io
import lzma
import pickle
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from training.data import BATCH_ROWS, FOLDER, META, TEST_BATCH, TRAIN_BATCHES

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def batch(seed: int) -> dict[bytes, Any]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(NAMES), BATCH_ROWS)
    pixels = np.repeat((labels[:, None] * 25).astype(np.uint8), 3072, axis=1)
    pixels[:, ::16] ^= random.integers(0, 16, (BATCH_ROWS, 192), dtype=np.uint8)
    return {b"data": pixels, b"labels": labels.tolist()}


def files() -> dict[str, bytes]:
    contents = {name: batch(seed) for seed, name in enumerate((*TRAIN_BATCHES, TEST_BATCH))}
    meta: dict[bytes, Any] = {b"label_names": [name.encode() for name in NAMES]}
    return {name: pickle.dumps(value, protocol=2) for name, value in (contents | {META: meta}).items()}


def write_folder(root: Path, contents: dict[str, bytes]) -> Path:
    folder = root / FOLDER
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, contents: dict[str, bytes]) -> Path:
    """Compressed as the path's name ends, quickly rather than well."""
    with ExitStack() as stack:
        fast = lzma.open(path, "wb", preset=0) if path.suffix == ".xz" else gzip.open(path, "wb", 1)
        compressed = cast("BinaryIO", stack.enter_context(fast))
        archive = stack.enter_context(tarfile.open(fileobj=compressed, mode="w|"))
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
