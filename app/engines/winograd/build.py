"""Compiles `kernel.c`, where there is a C compiler: `python app/engines/winograd/build.py`.

It needs nothing but Python and `cc`, or what the variable CC names.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("kernel.c")
_PROCESSORS: Final = frozenset({"amd64", "x86_64"})
OPTIONS: Final = (
    *("-std=c11", "-O3", "-mavx2", "-mfma", "-D_GNU_SOURCE", "-pthread", "-shared", "-fPIC"),
    *("-Wall", "-Wextra", "-Werror"),
)


def library() -> Path:
    """Where the library of this source is: one that was built from another is never loaded."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    return SOURCE.with_name(f"kernel-{digest[:16]}.so")


def build(compiler: str) -> Path:
    """Compiles it and removes what was compiled from other sources.

    Raises:
        subprocess.CalledProcessError: the compiler refuses it, and has said why.
        OSError: the compiler cannot be run, or the folder cannot be written to.
        ValueError: what names the compiler has a quotation mark without another.
    """
    path = library()
    unfinished = path.with_suffix(f".{os.getpid()}")
    subprocess.run(  # noqa: S603  # the compiler of whoever builds it
        [*shlex.split(compiler), *OPTIONS, "-o", unfinished, SOURCE, "-lm"], check=True
    )
    unfinished.replace(path)
    for other in path.parent.glob("kernel-*.so"):
        if other != path:
            other.unlink()
    return path


def main() -> str | None:
    """What went wrong, if anything did."""
    if platform.machine().lower() not in _PROCESSORS:
        return f"The engine winograd is for x86-64, and this is {platform.machine()}; OpenVINO serves here."
    compiler = os.environ.get("CC") or shutil.which("cc")
    if not compiler:
        return (
            "There is no C compiler, so the engine winograd is left out, which is the fastest on processors\n"
            "with AVX2 alone; OpenVINO serves there. To have it, install gcc, or name a compiler in CC, and\n"
            "run this again."
        )
    try:
        print(f"Built {build(compiler)}.")
    except subprocess.CalledProcessError as error:
        return f"{compiler} failed with status {error.returncode}; the engine winograd is left out."
    except (OSError, ValueError) as error:
        return f"{compiler}: {getattr(error, 'strerror', None) or error}; the engine winograd is left out."
    return None


if __name__ == "__main__":
    sys.exit(main())
