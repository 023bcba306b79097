"""A small file system in memory for one command, seen by nobody else and gone with it."""

import subprocess
from pathlib import Path

import pytest


def within_mount(place: str | Path, size_kib: int, then: str = "true") -> list[str]:
    """What to put before a command: it mounts, runs the shell command `then`, and becomes that command.

    Skips the test where the system does not let it mount.
    """
    script = f"mount -t tmpfs -o size={size_kib}k none '{place}' && {then} && exec \"$@\""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    return command
