"""The kernel is compiled by one command that needs nothing else, and otherwise says what is lacking."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.engines.winograd import build as module

SOURCE = "int answer(void);\nint answer(void) { return 42; }\n"  # the kernel itself takes seconds
OTHER = "kernel-0123456789abcdef.so"

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="there is no compiler")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The command and a source alone, with what was compiled from another source."""
    path = tmp_path / "with spaces"
    path.mkdir()
    shutil.copy(module.__file__, path / "build.py")
    (path / "kernel.c").write_text(SOURCE)
    (path / OTHER).write_bytes(b"compiled from another source")
    return path


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as the Makefile and the Dockerfile do, in this environment."""
    command = [sys.executable, str(folder / "build.py")]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)


def libraries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"build.py", "kernel.c"}


@needs_compiler
def test_it_compiles_without_any_package_and_removes_what_was_compiled_before(folder: Path) -> None:
    done = build(folder, PATH=os.environ["PATH"])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (name,) = libraries(folder)
    assert name == f"kernel-{hashlib.sha256(SOURCE.encode()).hexdigest()[:16]}.so"
    assert ctypes.CDLL(str(folder / name)).answer() == 42
    assert done.stdout == f"Built {folder / name}.\n"


@needs_compiler
def test_it_may_be_compiled_again_while_it_is_in_use(folder: Path) -> None:
    """A library that a process has mapped is replaced, never written over."""
    build(folder, PATH=os.environ["PATH"])
    (name,) = libraries(folder)
    with (folder / name).open("rb") as in_use:
        before = in_use.read()
        in_use.seek(0)
        assert build(folder, PATH=os.environ["PATH"]).returncode == 0
        assert in_use.read() == before
        assert os.fstat(in_use.fileno()).st_ino != (folder / name).stat().st_ino


@needs_compiler
def test_a_compiler_may_be_named_with_options(folder: Path) -> None:
    done = build(folder, PATH=os.environ["PATH"], CC="cc -DNAMED=1")
    assert done.returncode == 0, done.stderr


def test_a_library_of_another_source_is_never_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOURCE", folder / "kernel.c")
    before = module.library()
    assert before.parent == folder
    assert before == module.library()
    with (folder / "kernel.c").open("a") as source:
        source.write("\n")
    assert module.library() != before
    assert not module.library().exists()


@pytest.mark.parametrize("environment", [{"PATH": ""}, {"PATH": "/nowhere", "CC": ""}])
def test_without_a_compiler_it_says_what_is_left_out_and_what_to_install(
    folder: Path, environment: dict[str, str]
) -> None:
    done = build(folder, **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no C compiler, so the engine winograd is left out" in done.stderr
    assert "install gcc, or name a compiler in CC" in done.stderr
    assert libraries(folder) == {OTHER}


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("false", "false failed with status 1; the engine winograd is left out.\n"),
        ("/nowhere/cc", "/nowhere/cc: No such file or directory; the engine winograd is left out.\n"),
        ("/", "/: Permission denied; the engine winograd is left out.\n"),
    ],
)
def test_a_compiler_that_fails_is_named_and_leaves_all_as_it_was(
    folder: Path, compiler: str, said: str
) -> None:
    done = build(folder, PATH="/usr/bin:/bin", CC=compiler)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    assert libraries(folder) == {OTHER}


@pytest.mark.parametrize("compiler", ["'cc", " "])
def test_a_compiler_that_cannot_be_understood_is_told_without_a_traceback(
    folder: Path, compiler: str
) -> None:
    done = build(folder, PATH="/usr/bin:/bin", CC=compiler)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert libraries(folder) == {OTHER}


@needs_compiler
def test_a_source_that_is_refused_leaves_what_was_compiled_before(folder: Path) -> None:
    (folder / "kernel.c").write_text("int unfinished(")
    done = build(folder, PATH=os.environ["PATH"])
    assert done.returncode == 1
    assert "failed with status 1; the engine winograd is left out." in done.stderr
    assert libraries(folder) == {OTHER}
