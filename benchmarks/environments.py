"""A virtual environment for each peer, made from its lock and kept until the lock changes."""

import compileall
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from contenders import PEERS

APP: Final = Path(__file__).resolve().parent.parent / "app"
MARK: Final = ".installed"


class InstallationError(Exception):
    """A peer's packages could not be installed; the text says which command failed, and how."""


def prepare(name: str | None, environments: Path) -> None:
    """Makes `environments/name` as `peers/name/requirements.txt` says, unless it is there already.

    None is this project's own environment, which is there: its code is compiled, as it is in the image, and
    as pip does with what peers run.

    Raises:
        InstallationError: it cannot be made here.
    """
    if name is None:
        compileall.compile_dir(APP, quiet=1)
        return
    lock = PEERS / name / "requirements.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder = environments / name
    mark = folder / MARK
    if mark.is_file() and mark.read_text().strip() == digest:
        return
    print(f"Installing {name} into {folder}; this happens once and takes minutes ...", flush=True)
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    options = ("--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps")
    wheels = ("--only-binary", ":all:", "-r", str(lock))
    _run(str(folder / "bin" / "python"), "-m", "pip", "install", *options, *wheels)
    mark.write_text(digest + "\n")


def _run(*command: str) -> None:
    # Our own PYTHONPATH would let pip find this project's packages.
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=own)  # noqa: S603
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise InstallationError(f"{' '.join(command[:4])} failed: {' '.join(last) or done.returncode}")
