"""The servers that are compared do the same job with the same libraries."""

import re
from pathlib import Path

import pytest
from contenders import CONTENDERS, OURS, PEERS, PORTS, ROOT

ENVIRONMENTS = sorted(path.parent.name for path in PEERS.glob("*/requirements.in"))
# Whoever computes with another one is another engine.
SAME = ("keras", "openvino", "pillow", "tensorflow")


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def test_every_environment_is_of_a_contender_and_the_other_way_round() -> None:
    assert {each.environment for each in CONTENDERS if each.name != OURS} == set(ENVIRONMENTS)
    assert len({each.name for each in CONTENDERS}) == len(CONTENDERS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_peers_compute_with_the_libraries_that_this_project_has(name: str) -> None:
    ours, theirs = pins(ROOT / "requirements/dev.txt"), pins(PEERS / name / "requirements.txt")
    assert {package: theirs.get(package, ours[package]) for package in SAME} == {
        package: ours[package] for package in SAME
    }


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_locks_of_peers_have_hashes_and_no_address(name: str) -> None:
    text = (PEERS / name / "requirements.txt").read_text()
    assert len(re.findall(r"==\S+.*\\\n +--hash=sha256:", text)) == len(re.findall(r"==\S+", text)) > 20
    assert "://" not in text


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda each: each.name)
def test_a_contender_is_told_where_to_listen_and_what_to_serve(contender: object) -> None:
    each = next(known for known in CONTENDERS if known is contender)
    ports = range(20001, 20001 + PORTS)
    version = ROOT / "model" / "resnet18-cifar10" / "1"
    variables = each.variables(version, ports)
    assert "20001" in variables.values()
    assert any(value.startswith(str(version)) or value == version.parent.name for value in variables.values())
    files = [part for part in each.program if part.startswith("/")]
    assert all(Path(file).exists() for file in files)
