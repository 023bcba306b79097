"""CIFAR-10 archives in the standard form with made-up pictures: class k is a flat colour with some noise."""

import gzip
import io
import lzma
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from training.data import BATCH_ROWS, FOLDER, META, TEST_BATCH, TRAIN_BATCHES

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def batch(seed: int) -> dict[bytes, Any]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(NAMES), BATCH_ROWS)
    pixels = np.repeat((labels[:, None] * 25).astype(np.uint8), 3072, axis=1)
    pixels[:, ::256] ^= random.integers(0, 16, (BATCH_ROWS, 12), dtype=np.uint8)
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


def link_folder(root: Path, folder: Path) -> Path:
    """The same files below another root without copying them: replace one, but never write into it."""
    linked = root / FOLDER
    linked.mkdir()
    for file in folder.iterdir():
        (linked / file.name).hardlink_to(file)
    return linked


def write_archive(path: Path, contents: dict[str, bytes]) -> Path:
    """Compressed as the path's name ends, quickly rather than well."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    if path.suffix == ".xz":
        path.write_bytes(lzma.compress(plain.getbuffer(), preset=0))
    else:
        path.write_bytes(gzip.compress(plain.getbuffer(), compresslevel=1))
    return path
