"""Every command, path, link and address that a reader is given is true."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from starlette.routing import Match

from app.main import create_app
from app.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "examples/*.md", "model/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
PROMISED = {"install", "serve", "train", "test", "bench", "check", "fix", "lock"}
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PROGRAM = re.compile(
    r"(?:sudo )?(?:\.venv/bin/\w+|make|curl|python[\d.]*|docker|docker-compose|git|uvicorn)(?: |$)"
)
SERVICE = re.compile(r"https?://(?:127\.0\.0\.1|localhost):8000(/[\w./:{}<>-]*)?")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def code(document: Path) -> Iterator[str]:
    """Every line of code in a document: in fences, indented by four spaces, or between backticks."""
    text = document.read_text().replace("\\\n", " ")
    fences = re.compile(r"^```[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for fence in fences.findall(text):
        yield from fence.splitlines()
    prose = fences.sub("", text)
    yield from re.findall(r"^ {4}(\S.*)$", prose, re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", prose)


def commands(document: Path) -> list[str]:
    lines = (line.removeprefix("$ ").strip() for line in code(document))
    return [line for line in lines if PROGRAM.match(line)]


def run(
    *command: str | Path, cwd: Path = ROOT, path: str = os.environ["PATH"]
) -> subprocess.CompletedProcess[str]:
    """Run without the flags that an outer `make test` hands down."""
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    environment = {name: value for name, value in os.environ.items() if name not in outer} | {"PATH": path}
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env=environment,
    )


@each_document
def test_commands_in_documents_are_shell(document: Path) -> None:
    for command in commands(document):
        parsed = run("bash", "-n", "-c", command)
        assert not parsed.stderr, command


@each_document
def test_make_targets_in_documents_exist(document: Path) -> None:
    for command in commands(document):
        program, *words = shlex.split(command, comments=True)
        if program == "make":
            assert {word for word in words if "=" not in word} <= TARGETS, command


@cache
def options_of(*program: str) -> frozenset[str]:
    helped = run(sys.executable, *program, "--help")
    assert helped.returncode == 0, helped.stderr
    return frozenset(re.findall(r"(?<![\w-])--[a-z][\w-]*", helped.stdout))


@each_document
@pytest.mark.parametrize(
    ("spoken", "program"),
    [
        (r"python training/train\.py|make train", ("training/train.py",)),
        (r"python training/evaluate\.py", ("training/evaluate.py",)),
        (r"python -m app(?! classify)|make serve", ("-m", "app")),
        (r"python -m app classify", ("-m", "app", "classify")),
        (r"benchmarks/compare\.py|make bench", ("benchmarks/compare.py",)),
        (r"benchmarks/overload\.py", ("benchmarks/overload.py",)),
        (r"benchmarks/chaos\.py", ("benchmarks/chaos.py",)),
        (r"benchmarks/open_loop\.py", ("benchmarks/open_loop.py",)),
    ],
    ids=["train", "evaluate", "serve", "classify", "bench", "overload", "chaos", "open-loop"],
)
def test_options_in_documents_exist(document: Path, spoken: str, program: tuple[str, ...]) -> None:
    for command in commands(document):
        if re.search(spoken, command):
            used = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", command))
            assert used <= options_of(*program), command


@each_document
def test_variables_in_documents_are_settings(document: Path) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert set(re.findall(rf"\b{PREFIX}[A-Z0-9_]+\b", document.read_text())) <= known


@each_document
def test_paths_in_documents_exist(document: Path) -> None:
    """A path counts when its first part stands in the repository, so prose like `and/or` does not."""
    for line in code(document):
        for token in re.findall(r"(?<![\w./<>{}*:-])[\w.-]+(?:/[\w.*-]+)+/?(?![\w<>{}/])", line):
            if (ROOT / token.split("/")[0]).exists():
                assert list(ROOT.glob(token.rstrip("/"))), f"{document.name} names {token}"


@each_document
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" not in target:
            name, _, heading = target.partition("#")
            linked = (document.parent / name) if name else document
            assert linked.exists(), target
            assert not heading or heading in anchors(linked), target


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_served(path: str) -> bool:
    """Whether some method is, where everything is offered that a setting can turn on."""
    app = create_app(Settings.load(admin_key="that of these tests"))
    methods = ("GET", "POST", "PUT")
    scopes = [{"type": "http", "path": path, "method": method, "root_path": ""} for method in methods]
    return any(route.matches(scope)[0] is Match.FULL for scope in scopes for route in app.router.routes)


@each_document
def test_addresses_of_the_service_in_documents_are_served(document: Path) -> None:
    for path in SERVICE.findall(document.read_text()):
        assert is_served(re.sub(r"[<>{}]", "", path.rstrip(".")) or "/"), path


def test_make_lists_its_targets_when_asked_for_nothing() -> None:
    listed = run("make").stdout
    assert set(re.findall(r"^  make (\w+)", listed, re.MULTILINE)) == TARGETS
    assert TARGETS >= PROMISED


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_target_can_be_planned(target: str) -> None:
    planned = run("make", "--dry-run", target)
    assert planned.returncode == 0, planned.stderr


def test_an_old_python_is_named_before_anything_is_created(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/dev.txt").touch()
    (tmp_path / "pyproject.toml").touch()
    old = tmp_path / "bin"
    old.mkdir()
    for name in ("python3.11", "python3"):
        (old / name).write_text("#!/bin/sh\nexit 1\n")
        (old / name).chmod(0o755)
    made = run(
        "make", "--file", ROOT / "Makefile", "install", cwd=tmp_path, path=f"{old}:{os.environ['PATH']}"
    )
    assert made.returncode == 2
    assert "Python 3.11 or newer is needed" in made.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_ci_script_runs_the_commands_that_people_run() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert run("bash", "-n", script).returncode == 0
    assert script.read_text().splitlines()[-1] == "make check test"
