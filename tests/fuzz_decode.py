"""Looks for bytes that `app.imaging.decode` answers with anything but a picture or one of our refusals.

    make fuzz                                        a minute
    .venv/bin/python tests/fuzz_decode.py -max_total_time=600

Coverage of Pillow's and our Python code guides it; it starts from every picture of the corpus and mutates
them in their own way or libFuzzer's. What it finds lies in runs/fuzz: pictures that reach something new in
`corpus`, from which the next run starts too, those that break something in crash-*, timeout-* or oom-*.
"""

import sys
from contextlib import suppress
from pathlib import Path
from time import thread_time
from typing import Final

import atheris

with atheris.instrument_imports(include=["PIL", "app"]):
    from app.errors import OverloadedError, PictureError
    from app.imaging import decode

import corpus
import numpy as np

FOUND: Final = Path(__file__).resolve().parent.parent / "runs/fuzz"
SLOW_S: Final = 2.0
LARGEST_BYTES: Final = 60_000


def check(data: bytes) -> None:
    """Fails on an exception that is not ours, on pixels of another shape, and on slowness."""
    began = thread_time()
    with suppress(PictureError, OverloadedError):
        assert decode(data).pixels.shape == (32, 32, 3)
    spent_s = thread_time() - began
    assert spent_s < SLOW_S, f"{len(data)} bytes took {spent_s:.1f} s of processor time"


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Half of the time in the corpus's way, which knows pieces, half in libFuzzer's, which knows coverage."""
    if seed % 2 and data:
        return corpus.mutated(data, np.random.default_rng(seed))[:max_size]
    changed: bytes = atheris.Mutate(data, max_size)
    return changed


def write_seeds(folder: Path) -> None:
    """Every sample that is small enough to be mutated quickly."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(corpus.GOOD) + sorted(corpus.REFUSED):
        if len(data := corpus.sample(name)) <= LARGEST_BYTES:
            (folder / name).write_bytes(data)


def main() -> None:
    """Runs until libFuzzer's own options say that it is enough."""
    write_seeds(FOUND / "corpus")
    options = [f"-artifact_prefix={FOUND}/", f"-max_len={LARGEST_BYTES}", "-rss_limit_mb=4096", "-timeout=30"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], str(FOUND / "corpus")], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
