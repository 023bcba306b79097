"""What is declared, locked and put into the image is what the code needs."""

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

from app import imaging, server, serving, supervisor
from app.engines.winograd.build import SOURCE
from app.pixel_budget import FREE_PIXELS
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EVERY_EXTRA = ("tensorflow", "training", "grpc", "heif", "parquet", "dev")
LOCKS = {"serve": ("grpc",), "tensorflow": ("tensorflow", "grpc"), "dev": EVERY_EXTRA}
USERS = {
    "app": ("tensorflow", "grpc", "heif", "parquet"),
    "training": ("tensorflow", "training", "parquet"),
    "tests": EVERY_EXTRA,
}
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")

each_lock = pytest.mark.parametrize("lock", LOCKS)


def declared(extras: tuple[str, ...]) -> dict[str, Requirement]:
    optional = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    needs = [Requirement(line) for line in PROJECT["dependencies"] + optional]
    return {canonicalize_name(need.name): need for need in needs if need.name != PROJECT["name"]}


def locked(lock: str) -> dict[str, list[tuple[str, int]]]:
    """Of each package, its versions (several where Pythons differ) with the number of their hashes."""
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    versions: dict[str, list[tuple[str, int]]] = {}
    for name, version, rest in re.findall(r"^([\w.-]+)==([^\s;]+)(.*(?:\n {4}.*)*)", text, re.MULTILINE):
        hashes = len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", rest))
        versions.setdefault(canonicalize_name(name), []).append((version, hashes))
    return versions


def imported(folder: str) -> set[str]:
    """Top-level names that a folder's code imports from outside the project and the standard library."""
    trees = [ast.parse(path.read_bytes()) for path in (ROOT / folder).rglob("*.py")]
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    flat = {path.stem for folder in ("tests", "benchmarks") for path in (ROOT / folder).glob("*.py")}
    ours = flat | {"app", "training", "tests"}
    return names - ours - sys.stdlib_module_names


def last_instruction(name: str) -> str:
    found: list[str] = re.findall(rf"^{name} +(.+)$", DOCKERFILE, re.MULTILINE)
    return found[-1].strip()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@pytest.mark.parametrize("folder", USERS)
def test_what_the_code_imports_is_declared(folder: str) -> None:
    distributions = packages_distributions()
    for name in imported(folder):
        providers = {canonicalize_name(distribution) for distribution in distributions.get(name, [])}
        assert providers & declared(USERS[folder]).keys(), f"{folder} imports {name}"


@each_lock
def test_a_lock_holds_what_is_declared_in_a_version_that_is_allowed(lock: str) -> None:
    found = locked(lock)
    for name, need in declared(LOCKS[lock]).items():
        assert all(need.specifier.contains(version) for version, _ in found[name]), need


@each_lock
def test_every_locked_file_has_a_hash(lock: str) -> None:
    assert all(hashes > 0 for versions in locked(lock).values() for _, hashes in versions)


@pytest.mark.parametrize("lock", ["serve", "tensorflow"])
def test_what_is_served_is_what_was_tested(lock: str) -> None:
    development = locked("dev")
    assert {
        name: versions for name, versions in locked(lock).items() if development.get(name) != versions
    } == {}


def test_the_service_can_be_installed_without_tensorflow() -> None:
    assert not locked("serve").keys() & {"tensorflow", "keras", "nncf", "torch"}


def test_no_lock_brings_a_second_training_framework() -> None:
    assert "torch" not in locked("dev")


def test_every_image_variant_has_its_lock_in_the_build_context() -> None:
    default = re.search(r"^ARG ENGINE=(\w+)$", DOCKERFILE, re.MULTILINE)
    assert default
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert default[1] == "serve"
    assert {f"!requirements/{name}.txt" for name in ("serve", "tensorflow")} <= set(allowed)


def test_the_image_holds_the_whole_service_and_nothing_of_training() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE)
    assert copied == ["requirements/${ENGINE}.txt", "app/engines/winograd", "app"]


def test_the_image_holds_the_kernel_that_was_compiled_in_it_and_no_compiler() -> None:
    """One from outside could be made for another system; a stage of its own leaves only what it made."""
    *before, last = DOCKERFILE.split("\nFROM ")
    (compiling,) = (stage for stage in before if "build.py" in stage)
    name = compiling.splitlines()[0].split(" AS ")[1]
    folder = "/srv/app/engines/winograd"
    assert f"RUN python {folder}/build.py || true" in compiling
    assert f"COPY --from={name} {folder} app/engines/winograd" in last
    assert last.index("COPY app app") < last.index(f"COPY --from={name}") < last.index("compileall")
    assert "gcc" not in last
    assert "**/*.so" in (ROOT / ".dockerignore").read_text().splitlines()


def test_whoever_installs_the_package_gets_the_source_of_the_kernel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packed = [path for pattern in setuptools["package-data"]["app"] for path in (ROOT / "app").glob(pattern)]
    assert SOURCE in packed


def test_the_image_runs_as_a_number_and_receives_signals_itself() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last_instruction("USER"))
    assert json.loads(last_instruction("CMD")) == ["python", "-m", "app"]


def test_the_health_check_asks_whether_the_service_is_ready() -> None:
    probe = last_instruction("HEALTHCHECK")
    assert f"http://127.0.0.1:{last_instruction('EXPOSE')}/readyz" in probe


def test_compose_publishes_the_port_that_the_image_exposes(compose: dict[str, Any]) -> None:
    assert compose["services"]["app"]["ports"][0].endswith(f"8000:{last_instruction('EXPOSE')}")


def test_compose_gives_the_container_no_more_than_it_needs(compose: dict[str, Any]) -> None:
    service = compose["services"]["app"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["volumes"] == [f"./model:{last_instruction('WORKDIR')}/model:ro"]
    assert service["mem_limit"]


def test_compose_waits_for_open_requests_before_it_kills(compose: dict[str, Any]) -> None:
    settings = Settings()
    grace_s = float(compose["services"]["app"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > settings.drain_s + settings.shutdown_timeout_s + supervisor.STOP_GRACE_S
    assert supervisor.STOP_GRACE_S > server.HEARD_S + serving.CLOSE_TIMEOUT_S


def test_compose_has_memory_for_the_worst_that_the_limits_let_in(compose: dict[str, Any]) -> None:
    """As docs/configuration.md counts it, on a machine with 16 cores."""
    settings, service_bytes, bytes_per_pixel, cores = Settings(), 350e6, 16, 16
    held_pixels = max(imaging.HELD_PIXELS, settings.max_pixels)
    decoding = bytes_per_pixel * (held_pixels + cores * FREE_PIXELS)
    limit = float(compose["services"]["app"]["mem_limit"].removesuffix("g")) * 2**30
    assert service_bytes + settings.received_bytes + decoding < limit


def test_compose_1_can_read_the_file(compose: dict[str, Any]) -> None:
    assert compose["version"] == "2.4"
