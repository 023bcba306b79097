"""What is declared, locked and put into the image is what the code needs, and no more."""

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.main import create_app

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED_EXTRAS: dict[str, list[str]] = {
    "serve": [],
    "tensorflow": ["tensorflow"],
    "dev": ["tensorflow", "training", "heif", "parquet", "dev"],
}
IMPORTED_BY = {
    "app": ["tensorflow", "heif"],
    "training": ["tensorflow", "training", "parquet"],
    "tests": LOCKED_EXTRAS["dev"],
}
each_lock = pytest.mark.parametrize("lock", LOCKED_EXTRAS)


def declared(extras: list[str]) -> dict[str, Requirement]:
    lines = PROJECT["dependencies"] + [
        line for extra in extras for line in PROJECT["optional-dependencies"][extra]
    ]
    requirements = (Requirement(line) for line in lines)
    return {canonicalize_name(need.name): need for need in requirements if need.name != PROJECT["name"]}


def locked(lock: str) -> dict[str, list[str]]:
    """Versions of each package in a lock; more than one where environments differ."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(
        r"^([\w.-]+)==([^\s;]+)", (ROOT / f"requirements/{lock}.txt").read_text(), re.MULTILINE
    ):
        versions.setdefault(canonicalize_name(name), []).append(version)
    return versions
