"""What docs/architecture.md promises about the code as a whole, read from the code itself."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A module may import only what stands on a line below its own, or what lies in its own package.
LAYERS = (
    ("app.__main__",),
    ("app.supervisor",),
    ("app.start",),
    ("app.server",),
    ("app.classify", "app.http_protocol", "app.main"),
    ("app.api", "app.results"),
    ("app.feedback", "app.shadow"),
    ("app.classification", "app.explanation", "app.feedback_figures"),
    ("app.serving",),
    ("app.revival", "app.stall"),
    ("app.management",),
    ("app.versions",),
    ("app.pursuit",),
    ("app.residents",),
    ("app.loading",),
    ("app.model",),
    ("app.batching", "app.decoding", "app.deployment", "app.golden", "app.graph"),
    ("app.batch_time", "app.lane", "app.spare_time"),
    ("app.engines", "app.feedback_store", "app.metrics", "app.repository"),
    ("app.imaging", "app.importance", "app.overlay"),
    ("app.plain_png",),
    ("app.colour", "app.geometry", "app.picture_formats", "app.picture_structure", "app.pixel_budget"),
    ("app.manifest",),
    ("app.parquet",),
    ("app.operations", "app.wire"),
    (
        "app.backoff",
        "app.chatter",
        "app.cores",
        "app.estimation",
        "app.folder",
        "app.joined_transport",
        "app.memory",
        "app.open_files",
        "app.logs",
        "app.parallel",
        "app.processor",
        "app.rows",
        "app.settings",
        "app.shared_metrics",
    ),
    ("app.figures_file", "app.shared_folder"),
    ("app.errors",),
)
OPEN_TO_TRAINING = {
    "app.chatter",
    "app.cores",
    "app.engines",
    "app.errors",
    "app.folder",
    "app.golden",
    "app.graph",
    "app.imaging",
    "app.manifest",
    "app.processor",
    "app.repository",
}
WEB_PACKAGES = {"fastapi", "google", "grpc", "http", "httptools", "starlette", "uvicorn"}
HEAVY_PACKAGES = {"grpc", "keras", "matplotlib", "nncf", "openvino", "tensorflow"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def names_in(node: ast.AST) -> Iterator[str]:
    """Modules that one statement may load: ``from a import b`` may mean the module ``a.b``."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are written in full"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(path: Path) -> set[str]:
    return {name for node in ast.walk(ast.parse(path.read_bytes())) for name in names_in(node)}


def layer_of(module: str) -> int:
    """Height above the lowest layer, which is 0; -1 for what stands in none."""
    for height, packages in enumerate(reversed(LAYERS)):
        if any(is_within(module, package) for package in packages):
            return height
    return -1


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def tracked_files() -> list[Path]:
    """Files of the repository, committed or about to be; published weights are not text."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]


def readable_texts() -> Iterator[tuple[Path, str]]:
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" not in data:
            yield path.relative_to(ROOT), data.decode(errors="replace")


@pytest.mark.parametrize("path", sources("app"), ids=module_name)
def test_every_module_of_the_service_stands_in_a_layer(path: Path) -> None:
    assert module_name(path) == "app" or layer_of(module_name(path)) >= 0


@pytest.mark.parametrize("path", sources("app"), ids=module_name)
def test_the_service_imports_only_downwards(path: Path) -> None:
    module = module_name(path)
    height = layer_of(module)
    upwards = {
        name
        for name in imports(path)
        if package_of(name) != package_of(module) and layer_of(name) >= max(height, 0)
    }
    assert not upwards, f"{module} imports {sorted(upwards)}, which stand beside or above it"


@pytest.mark.parametrize("path", sources("app"), ids=module_name)
def test_the_service_never_imports_training(path: Path) -> None:
    assert not {name for name in imports(path) if is_within(name, "training")}


@pytest.mark.parametrize("path", sources("training"), ids=module_name)
def test_training_imports_of_the_service_only_what_both_share(path: Path) -> None:
    used = {package_of(name) for name in imports(path) if is_within(name, "app")}
    assert used <= OPEN_TO_TRAINING


@pytest.mark.parametrize("path", sources("app"), ids=module_name)
def test_only_the_api_and_what_is_above_it_know_http(path: Path) -> None:
    if layer_of(module_name(path)) < layer_of("app.api"):
        assert not {name.split(".")[0] for name in imports(path)} & WEB_PACKAGES


def test_cores_are_counted_in_one_place() -> None:
    """Affinity alone does not know the quota of a container."""
    asking = {
        reader.rpartition(".")[0]
        for path in sources("app", "training")
        for reader in readers(path, "sched_getaffinity", "cpu_count", "process_cpu_count")
    }
    assert asking == {"app.cores"}


@pytest.mark.parametrize("entry", ["app.main", "app.__main__", "training.cli"])
def test_a_command_loads_no_engine_before_it_needs_one(entry: str) -> None:
    command = f"import sys, {entry}; print(*sys.modules)"
    python = [sys.executable, "-W", "error", "-c", command]
    loaded = subprocess.run(python, check=False, capture_output=True, text=True, cwd="/")
    assert loaded.returncode == 0, loaded.stderr
    assert not {name.split(".")[0] for name in loaded.stdout.split()} & HEAVY_PACKAGES


@pytest.mark.parametrize("path", sources("app", "training"), ids=module_name)
def test_nothing_unpickles_what_it_was_given(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Attribute(value=ast.Name(id="pickle"), attr="load" | "loads"):
                pytest.fail(f"{path.name}:{node.lineno} reads a pickle without an allow-list")
            case ast.ImportFrom(module="pickle"):
                allowed = {"Unpickler", "UnpicklingError", "PickleError", "dump", "dumps"}
                assert {alias.name for alias in node.names} <= allowed
            case ast.Call(func=ast.Attribute(value=ast.Name(id="pickle"), attr="Unpickler")):
                pytest.fail(f"{path.name}:{node.lineno} uses an unpickler that allows everything")
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                pytest.fail(f"{path.name}:{node.value.lineno} lets NumPy unpickle")


@pytest.mark.parametrize("path", sources("training"), ids=module_name)
def test_no_training_module_hides_a_standard_one(path: Path) -> None:
    """`python training/train.py` puts its folder first on the path."""
    assert path.stem == "__init__" or path.stem not in sys.stdlib_module_names


def readers(path: Path, *names: str) -> set[str]:
    """Functions of a module that read one of these names, as a variable or an attribute; "" is none."""
    found = set()

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef) and not function:
            function = node.name
        name = {ast.Attribute: "attr", ast.Name: "id"}.get(type(node))
        if name and getattr(node, name) in names and isinstance(getattr(node, "ctx", None), ast.Load):
            found.add(function)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(path.read_bytes()), "")
    return {f"{module_name(path)}.{function}" for function in found}


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        # `training.data` builds the sets, cuts them alike and fingerprints them.
        (("test_images", "test_labels"), {"training.assessment.test_pictures", "training.data."}),
        (("test_pictures",), {"training.assessment.assess"}),
        (("assess",), {"training.publish.publish", "training.evaluate."}),
    ],
)
def test_only_the_final_evaluation_sees_the_test_pictures(names: tuple[str, ...], allowed: set[str]) -> None:
    reading = {reader for path in sources("training") for reader in readers(path, *names)}
    assert reading
    assert not {reader for reader in reading if not any(map(reader.startswith, allowed))}


def test_a_version_is_measured_after_all_its_choices() -> None:
    """Nothing follows but writing down what was measured."""
    (publish,) = (
        node
        for node in ast.walk(ast.parse((ROOT / "training/publish.py").read_bytes()))
        if isinstance(node, ast.FunctionDef) and node.name == "publish"
    )
    called = [
        (node.lineno, node.func.id if isinstance(node.func, ast.Name) else node.func.attr)
        for node in ast.walk(publish)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    ]
    (measured,) = (line for line, name in called if name == "assess")
    assert {name for line, name in called if line > measured} == {"publish", "_card", "Published"}


def test_no_file_names_a_package_index() -> None:
    option = re.compile(r"(?<!no-emit-)(?:index[-_]url|find[-_]links)|:/{2}\S+/simple\b", re.IGNORECASE)
    naming = [str(path) for path, text in readable_texts() if option.search(text)]
    assert not naming


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_a_lock_holds_no_address(lock: Path) -> None:
    assert "://" not in lock.read_text()


def test_no_file_names_this_checkout() -> None:
    naming = [str(path) for path, text in readable_texts() if f"{ROOT}/" in text]
    assert not naming


def test_no_picture_or_archive_of_the_data_set_is_tracked() -> None:
    archive = re.compile(r"cifar-10.*\.tar\.|cifar-10-batches|data_batch_\d")
    assert not [str(path) for path in tracked_files() if archive.search(str(path))]
