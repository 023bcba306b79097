import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pyarrow.parquet
import pytest
from conftest import Encode
from fakes import CARD, MODEL, FakeEngine, publish_calibrated, publish_fake

from app import classify, folder, results
from app.repository import Repository
from app.rows import Jsonl

pytestmark = pytest.mark.timeout(240)

Command = Callable[..., int]

# The engine is quick for warming up and the first pictures, and slow from then on.
SLOW = """
import sys, time
sys.path.insert(0, sys.argv[1])
from fakes import FakeEngine
from app import classify

class SlowEngine(FakeEngine):
    def predict(self, images):
        if len(self.batches) > 21:  # sixteen of them before it is ready
            time.sleep(float(sys.argv[2]))
        return super().predict(images)

sys.exit(classify.main(sys.argv[3:], choose=lambda *_: SlowEngine()))
"""
each_form = pytest.mark.parametrize("suffix", results.SUFFIXES)


@pytest.fixture
def model(repository: Repository) -> list[str]:
    """Options that name the model of the tests."""
    return ["--model-root", str(repository.root), "--model-name", MODEL]


@pytest.fixture
def run(model: list[str]) -> Command:
    """Runs the command with the fake engine and gives its exit code."""
    return lambda *words: classify.main([*map(str, words), *model], choose=lambda *_: FakeEngine())


@pytest.fixture
def photos(tmp_path: Path, encode: Encode) -> Path:
    """A folder with pictures at several depths and other things among them."""
    root = tmp_path / "photos"
    pictures = {
        "b.png": encode("red"),
        "a/z.jpg": encode("blue", "JPEG"),
        "a.gif": encode("lime", "GIF"),
        "a/deep/er/no-ending": encode("red", "WEBP"),
        "ü [bold]x:cat:.png": encode("blue"),
        ".hidden/c.png": encode("red"),
        ".c.png": encode("red"),
    }
    bad = {"notes.txt": b"hello", "empty.png": b"", "a/broken.jpg": encode("red", "JPEG")[:200]}
    for name, data in (pictures | bad).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


GOOD = ["a/deep/er/no-ending", "a/z.jpg", "a.gif", "b.png", "ü [bold]x:cat:.png"]
BAD = ["a/broken.jpg", "empty.png", "notes.txt"]


@pytest.fixture
def many(tmp_path: Path, encode: Encode) -> Path:
    """A folder with 80 pictures."""
    root = tmp_path / "many"
    root.mkdir()
    for number in range(80):
        (root / f"{number:03}.png").write_bytes(encode(("red", "lime", "blue")[number % 3]))
    return root


def rows(out: Path) -> list[dict[str, Any]]:
    if out.suffix == ".parquet":
        read: list[dict[str, Any]] = pyarrow.parquet.read_table(out).to_pylist()
        return read
    text = out.read_text(encoding="utf-8")
    if out.suffix == ".csv":
        return list(csv.DictReader(text.splitlines()))
    return [json.loads(line) for line in text.splitlines()]


def paths(out: Path) -> list[str]:
    return [row["path"] for row in rows(out)]


# Rows


def test_rows_are_what_predict_answers(
    run: Command, photos: Path, tmp_path: Path, client: httpx.Client
) -> None:
    out = tmp_path / "results.jsonl"
    assert run(photos, "--out", out) == 0
    for row, name in zip(rows(out), GOOD, strict=True):
        file = BytesIO((photos / name).read_bytes())
        answer = client.post("/predict", files={"file": ("picture", file)}).json()
        assert row == {"path": str(photos / name)} | answer


def test_flat_rows_hold_the_same_in_columns(run: Command, photos: Path, tmp_path: Path) -> None:
    for suffix in results.SUFFIXES:
        assert run(photos, "--out", tmp_path / f"results{suffix}") == 0
    nested, typed, text = (rows(tmp_path / f"results{suffix}") for suffix in (".jsonl", ".parquet", ".csv"))
    for row, flat, line in zip(nested, typed, text, strict=True):
        assert {name: "" if value is None else str(value) for name, value in flat.items()} == line
        assert [flat[f"probability_{name}"] for name in CARD.class_names] == list(
            row["probabilities"].values()
        )
        assert flat["probability"] == row["probability"]
        assert (flat["model"], flat["version"], flat["engine"]) == (MODEL, "1", "fake")
        assert (flat["format"], flat["width"], flat["height"]) == tuple(
            row["image"][name] for name in ("format", "width", "height")
        )
        assert flat["notes"].split() == row["image"]["notes"]


def test_flat_rows_tell_what_is_no_such_picture_and_what_else_it_may_be(
    run: Command, repository: Repository, tmp_path: Path, encode: Encode
) -> None:
    publish_calibrated(repository)
    for name, colour in (("bright", "red"), ("dark", "rgb(10, 0, 0)")):
        (tmp_path / f"{name}.png").write_bytes(encode(colour))
    outs = [tmp_path / f"results{suffix}" for suffix in results.SUFFIXES]
    for out in outs:
        assert run(tmp_path / "bright.png", tmp_path / "dark.png", "--out", out) == 0
    text, nested, typed = map(rows, outs)
    assert [row["in_distribution"] for row in typed] == [True, False]
    assert [row["in_distribution"] for row in text] == ["True", "False"]
    for row, flat in zip(nested, typed, strict=True):
        assert {"labels": json.loads(flat["confidence_set"]), "coverage": flat["coverage"]} == row[
            "confidence_set"
        ]
        assert flat["ood_score"] == row["ood_score"]


@each_form
def test_rows_stand_in_the_order_of_the_paths_and_what_is_hidden_is_left_out(
    run: Command, photos: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"results{suffix}"
    assert run(photos, "--out", out) == 0
    assert paths(out) == [str(photos / name) for name in GOOD]
    assert list(map(Path, paths(out))) == sorted(map(Path, paths(out)))


def test_a_file_that_is_named_twice_or_hidden_has_one_row(
    run: Command, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photos / "b.png", photos / "a", photos / ".c.png", photos / "a/z.jpg", photos / "b.png") == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    named = [photos / ".c.png", photos / "a/deep/er/no-ending", photos / "a/z.jpg", photos / "b.png"]
    assert [line[0] for line in lines] == list(map(str, named))
    assert [line[1] for line in lines] == ["red", "red", "blue", "red"]
    assert all(0.99 < float(line[2]) <= 1 for line in lines)


def test_results_inside_the_folder_are_not_looked_at(run: Command, photos: Path) -> None:
    for suffix in results.SUFFIXES:
        assert run(photos / "b.png", "--out", photos / f"results{suffix}") == 0
        (photos / f"results{suffix}.part").touch()
        assert run(photos / "b.png", photos, "--out", photos / f"results{suffix}") == 0
        assert paths(photos / f"results{suffix}") == [str(photos / "b.png")] + [
            str(photos / name) for name in GOOD if name != "b.png"
        ]
        (photos / f"results{suffix}").unlink()
        (photos / f"results{suffix}.part").unlink(missing_ok=True)


@each_form
def test_a_name_that_is_no_text_becomes_one_line_of_text(
    run: Command, tmp_path: Path, encode: Encode, suffix: str
) -> None:
    out, odd = tmp_path / f"results{suffix}", tmp_path / "odd"
    odd.mkdir()
    for name in (b"caf\xe9.png", b"two\nlines.png", b"\x1b[31m.png", b'quo"te,.png', b"empty\r.png"):
        Path(os.fsdecode(bytes(odd) + b"/" + name)).write_bytes(encode("red"))
    assert run(odd, "--out", out) == 0
    names = ["\\x1b[31m.png", "caf\\xe9.png", "empty\\r.png", 'quo"te,.png', "two\\nlines.png"]
    assert sorted(paths(out)) == sorted(f"{odd}/{name}" for name in names)
    assert run(odd, "--out", out) == 0
    assert len(paths(out)) == len(names)


# What cannot be read


def test_what_cannot_be_read_is_named_skipped_and_counted(
    run: Command, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "loop").symlink_to(photos)
    (photos / "nowhere.png").symlink_to(photos / "gone.png")
    os.mkfifo(photos / "pipe.png")
    assert run(photos, "--out", tmp_path / "results.csv") == 0
    said = capsys.readouterr().err
    for name in (*BAD, "loop", "nowhere.png", "pipe.png"):
        assert f"Skipped {photos / name}: " in said
    assert "5 classified" in said
    assert "6 skipped" in said
    assert "Traceback" not in said
    assert run(photos, "--out", tmp_path / "results.csv", "--strict") == 1


def test_a_file_that_is_mended_is_classified_in_the_next_run(
    run: Command, photos: Path, tmp_path: Path, encode: Encode
) -> None:
    out = tmp_path / "results.csv"
    assert run(photos, "--out", out, "--strict") == 1
    for name in BAD:
        (photos / name).write_bytes(encode("red"))
    assert run(photos, "--out", out, "--strict") == 0
    assert paths(out) == [str(photos / name) for name in GOOD + BAD]


def test_a_file_longer_than_allowed_is_skipped(
    run: Command, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photos / "b.png", "--max-body-bytes", 50, "--strict") == 1
    assert "more than 50 bytes" in capsys.readouterr().err


def test_a_picture_on_which_the_engine_fails_is_skipped(
    model: list[str], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine()
    warmed = [photos / "a.gif", photos / "b.png"]
    engine.fails_on = lambda pixels: bool(pixels[0, 0, 0] > 200 and (pixels == pixels[0, 0]).all())
    assert classify.main([*map(str, warmed), *model], choose=lambda *_: engine) == 0
    said = capsys.readouterr()
    assert f"Skipped {photos / 'b.png'}: The fake engine" in said.err
    assert said.out.startswith(f"{photos / 'a.gif'}\tgreen\t")


# Going on


@each_form
def test_a_second_run_goes_on_after_what_is_written(
    run: Command, photos: Path, tmp_path: Path, encode: Encode, suffix: str
) -> None:
    out, whole = tmp_path / f"results{suffix}", tmp_path / f"whole{suffix}"
    assert run(photos / "a", photos / "b.png", "--out", out) == 0
    before = rows(out)
    (photos / "a/aa.png").write_bytes(encode("lime"))
    assert run(photos, "--out", out) == 0
    assert rows(out)[: len(before)] == before
    assert run(photos, "--out", whole) == 0
    assert sorted(rows(out), key=lambda row: str(row["path"])) == sorted(
        rows(whole), key=lambda row: str(row["path"])
    )
    assert not list(tmp_path.glob("*.journal*")) + list(tmp_path.glob("*.part"))


@each_form
@pytest.mark.parametrize("keep", [0, 1, 10, 100, -2, -1])
def test_a_line_that_was_cut_off_is_mended(
    run: Command, photos: Path, tmp_path: Path, suffix: str, keep: int
) -> None:
    out = tmp_path / f"results{suffix}"
    assert run(photos, "--out", out) == 0
    expected = rows(out)
    grown = out
    if suffix == ".parquet":
        grown = out.with_name(out.name + ".journal")
        form = Jsonl()
        grown.write_text("".join(map(form.write, expected)), encoding="utf-8")
    data = grown.read_bytes()
    grown.write_bytes(data[:keep])
    assert run(photos, "--out", out) == 0
    assert rows(out) == expected


@each_form
def test_a_run_that_was_killed_goes_on_to_the_same_end(
    run: Command, model: list[str], many: Path, tmp_path: Path, suffix: str
) -> None:
    out, whole = tmp_path / f"results{suffix}", tmp_path / f"whole{suffix}"
    process = start(60.0, many, "--out", out, *model)
    wait_for_rows(out)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert suffix != ".parquet" or not out.exists()
    assert run(many, "--out", out) == 0
    assert run(many, "--out", whole) == 0
    assert rows(out) == rows(whole)
    assert len(rows(out)) == 80
    assert not list(tmp_path.glob("*.journal*"))


@each_form
def test_control_c_keeps_what_is_written(
    run: Command, model: list[str], many: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"results{suffix}"
    process = start(0.5, many, "--out", out, *model)
    wait_for_rows(out)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Stopped before the end" in said
    assert "Traceback" not in said
    assert run(many, "--out", out) == 0
    assert paths(out) == [str(many / f"{number:03}.png") for number in range(80)]


def test_a_reader_that_leaves_is_no_error(model: list[str], many: Path) -> None:
    process = start(0.0, many, *model)
    assert process.stdout
    assert process.stdout.readline().startswith(str(many / "000.png"))
    process.stdout.close()
    assert process.stderr
    assert "Error" not in process.stderr.read()
    assert process.wait(timeout=30) == 0
    process.stderr.close()


def start(slow_s: float, *words: str | Path) -> "subprocess.Popen[str]":
    """The command in a process of its own, with an engine that becomes slow."""
    command = [sys.executable, "-c", SLOW, str(Path(__file__).parent), str(slow_s), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_rows(out: Path) -> None:
    grown = out.with_name(out.name + ".journal") if out.suffix == ".parquet" else out
    deadline = time.monotonic() + 100  # of which its libraries take most, on a machine with other work
    while not grown.exists() or grown.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline, "no row was written"
        time.sleep(0.02)


# What the caller can mend


def test_a_path_that_is_not_there_is_named(
    run: Command, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photos, photos / "gone") == 2
    assert f"There is no file or folder {photos / 'gone'}." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["results", "results.xlsx", "results.CSV"])
def test_another_ending_is_told_which_there_are(
    run: Command, photos: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photos, "--out", tmp_path / name) == 2
    assert ".csv, .jsonl, .parquet" in capsys.readouterr().err.replace("\n", " ")


def test_results_need_a_folder_that_exists(
    run: Command, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photos, "--out", tmp_path / "gone/results.csv") == 2
    assert f"There is no folder {tmp_path / 'gone'}" in capsys.readouterr().err


def test_a_missing_package_is_told_how_to_install_it(photos: Path, tmp_path: Path, model: list[str]) -> None:
    hidden = "import sys, importlib.util as u; f = u.find_spec; "
    hidden += "u.find_spec = lambda name, *rest: None if name == 'pyarrow' else f(name, *rest); "
    hidden += "from app import classify; sys.exit(classify.main(sys.argv[1:]))"
    words = [str(photos), "--out", str(tmp_path / "results.parquet"), *model]
    done = subprocess.run([sys.executable, "-c", hidden, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install pyarrow" in done.stderr


@each_form
@pytest.mark.parametrize("content", [b"path,other\n1,2\n", b"hello", b"\xff\xfe\n", b"{}\n[]\n"])
def test_a_file_of_something_else_is_left_alone_unless_told_otherwise(
    run: Command, photos: Path, tmp_path: Path, suffix: str, content: bytes
) -> None:
    out = tmp_path / f"results{suffix}"
    out.write_bytes(content)
    assert run(photos, "--out", out) == 2
    assert out.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("results")] == [out.name]
    assert run(photos, "--out", out, "--restart") == 0
    assert paths(out) == [str(photos / name) for name in GOOD]


@each_form
def test_rows_of_two_versions_are_not_mixed(
    run: Command,
    photos: Path,
    tmp_path: Path,
    repository: Repository,
    suffix: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / f"results{suffix}"
    assert run(photos / "b.png", "--out", out) == 0
    before = rows(out)
    publish_fake(repository)
    assert run(photos, "--out", out) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "colours version 1 on fake" in said
    assert "colours version 2" in said
    assert rows(out) == before
    assert run(photos, "--out", out, "--model-version", 1) == 0
    assert run(photos, "--out", out, "--restart") == 0
    assert {row["version"] if suffix != ".jsonl" else row["model"]["version"] for row in rows(out)} == {"2"}


def test_two_runs_do_not_write_the_same_file(
    run: Command, model: list[str], many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.csv"
    process = start(60.0, many, "--out", out, *model)
    wait_for_rows(out)
    assert run(many, "--out", out) == 2
    assert "Another process is writing" in capsys.readouterr().err
    process.kill()
    process.communicate()


def test_a_missing_model_is_one_sentence(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify.main([str(photos), "--model-root", str(tmp_path / "none")]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["classify", "--help"]])
def test_help_is_a_page_that_leads_on(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "app", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert "python -m app classify" in done.stdout
    assert not done.stderr


def test_a_run_without_paths_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        classify.main([])
    assert stopped.value.code == 2
    assert "PATH" in capsys.readouterr().err


# Folders


def test_a_folder_that_is_gone_when_its_turn_comes_is_named(tmp_path: Path) -> None:
    unreadable: list[Path] = []
    for name in ("a.png", "z.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    found = folder.find([tmp_path], lambda path, _: unreadable.append(path))
    assert next(found) == tmp_path / "a.png"
    (tmp_path / "folder").rmdir()
    assert list(found) == [tmp_path / "z.png"]
    assert unreadable == [tmp_path / "folder"]
