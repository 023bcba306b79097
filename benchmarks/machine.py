"""Where a measurement was made, for whoever reads its numbers later."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import placement

from app.cores import available_cores

PACKAGES: Final = ("fastapi", "openvino", "pillow", "uvicorn")
_INSTRUCTIONS: Final = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")


def described() -> dict[str, Any]:
    """As JSON; `cores` are those that serve, and make the load if it has none of its own."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = set(_field(text, "flags").split())
    return {
        "processor": _field(text, "model name") or platform.machine(),
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cores": available_cores(),
        "load_cores": placement.load_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "load_average": round(os.getloadavg()[0], 2),
    }


def slug(machine: dict[str, Any]) -> str:
    """Short enough for the name of a file: processor, the newest of its instructions, and cores."""
    words = re.findall(r"[a-z0-9]+", machine["processor"].lower())
    newest = [name.replace("_", "-") for name in machine["instructions"][-1:]]
    apart = [f"{machine['load_cores']}-for-load"] if machine["load_cores"] else []
    return "-".join([*words[:4], *newest, f"{machine['cores']}-cores", *apart])


def _field(text: str, name: str) -> str:
    line = next((line for line in text.splitlines() if line.startswith(name)), "")
    return line.partition(":")[2].strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
