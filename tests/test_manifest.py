import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import manifest
from app.errors import ManifestError
from app.manifest import (
    Calibration,
    Card,
    ConformalThreshold,
    Evaluation,
    File,
    Input,
    Manifest,
    Measurement,
    ReliabilityBin,
)

CARD = Card(
    class_names=("cat", "dog"),
    input=Input(height=32, width=32),
    measurements=(
        Measurement(
            metric="accuracy", data="test", value=0.95, pictures=100, engine="tensorflow", precision="float32"
        ),
    ),
    calibration=Calibration(
        temperature=1.3,
        conformal_thresholds=(ConformalThreshold(coverage=0.9, threshold=0.2),),
        ood_threshold=-3.5,
    ),
    evaluation=Evaluation(
        data="test",
        engine="tensorflow",
        precision="float32",
        confusion=((48, 2), (3, 47)),
        reliability=(ReliabilityBin(confidence=0.9, accuracy=0.95, pictures=100),),
    ),
    lineage={"recipe": "quick", "epochs": 5},
)
FILES = {
    "golden.npz": File(sha256="0" * 64, bytes=1),
    "variables/variables.index": File(sha256="1" * 64, bytes=0),
}
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def whole(card: Card = CARD) -> Manifest:
    return manifest.complete(card, name="pets", version=7, created=CREATED, files=FILES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    manifest.write(whole(), path)
    return path


def damage(path: Path, *keys: str | int, value: Any) -> None:
    document = json.loads(path.read_text())
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(document))


def test_what_is_written_is_read_again(path: Path) -> None:
    assert manifest.read(path) == whole()


def test_people_can_read_the_file(path: Path) -> None:
    document = json.loads(path.read_text())
    assert list(document)[:4] == ["schema_version", "name", "version", "created"]
    assert document["created"] == "2026-01-02T03:04:05Z"
    assert document["class_names"] == ["cat", "dog"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(lineage=st.dictionaries(st.text(), json_values, max_size=4))
def test_any_lineage_survives(lineage: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lineage") / "manifest.json"
    document = CARD.model_copy(update={"lineage": lineage})
    manifest.write(whole(document), path)
    assert manifest.read(path).lineage == lineage


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        (("version",), "7", r"version: Input should be a valid integer"),
        (("version",), 0, r"version: Input should be greater than 0"),
        (("schema_version",), 2, r"schema_version: Input should be 1"),
        (("name",), "../pets", r"name: "),
        (("created",), "2026-01-02T03:04:05", r"created: "),
        (("created",), "2026-01-02T03:04:05+02:00", r"created: .*UTC"),
        (("class_names",), ["cat"], r"class_names: "),
        (("class_names",), ["cat", "cat"], r"class_names: .*cat is there twice"),
        (("input", "channels"), 1, r"input\.channels: "),
        (("golden_tolerance",), {"float32": 0}, r"golden_tolerance\.float32: "),
        (("files", "golden.npz", "sha256"), "abc", r"files\.golden\.npz\.sha256: "),
        (("files", "golden.npz", "bytes"), -1, r"files\.golden\.npz\.bytes: "),
        (("files", "../../etc/passwd"), {"sha256": "0" * 64, "bytes": 1}, r"not a plain path"),
        (("files", "/etc/passwd"), {"sha256": "0" * 64, "bytes": 1}, r"not a plain path"),
        (("files", "a//b"), {"sha256": "0" * 64, "bytes": 1}, r"not a plain path"),
        (("files", "a\\b"), {"sha256": "0" * 64, "bytes": 1}, r"not a plain path"),
        (("files", "manifest.json"), {"sha256": "0" * 64, "bytes": 1}, r"cannot list itself"),
        (("files",), {"weights": {"sha256": "0" * 64, "bytes": 1}}, r"golden\.npz is missing"),
        (("acuracy",), 0.95, r"acuracy: Extra inputs are not permitted"),
        (("measurements", 0, "value"), "high", r"measurements\.0\.value: "),
        (("evaluation", "confusion"), [[48, 2]], r"evaluation\.confusion must have 2 rows of 2 counts"),
        (("evaluation", "confusion"), [[48], [2, 3]], r"evaluation\.confusion must have 2 rows of 2 counts"),
        (("evaluation", "reliability", 0, "pictures"), 0, r"evaluation\.reliability\.0\.pictures: "),
    ],
)
def test_what_is_wrong_is_named(path: Path, keys: tuple[str | int, ...], value: Any, complaint: str) -> None:
    damage(path, *keys, value=value)
    with pytest.raises(ManifestError, match=complaint) as refused:
        manifest.read(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"name": NaN}', "\ufeff{}"])
def test_a_file_that_is_no_manifest_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ManifestError, match="is not valid"):
        manifest.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"Cannot read the manifest .*nowhere\.json: No such file"):
        manifest.read(tmp_path / "nowhere.json")


def test_a_number_that_json_does_not_have_is_refused() -> None:
    card = CARD.model_copy(update={"lineage": {"loss": float("nan")}})
    with pytest.raises(ManifestError, match=r"lineage\.loss.*finite number"):
        whole(card)


def test_a_card_cannot_be_completed_with_nonsense() -> None:
    with pytest.raises(ManifestError, match="version: "):
        manifest.complete(CARD, name="pets", version=0, created=CREATED, files=FILES)


def test_accuracy_is_the_first_one_measured_for_what_answers() -> None:
    foggy = CARD.measurements[0].model_copy(update={"data": "test in fog", "value": 0.6})
    card = CARD.model_copy(update={"measurements": (*CARD.measurements, foggy)})
    assert card.accuracy("tensorflow", "float32") == 0.95
    assert card.accuracy("openvino", "float32") is None


def test_weights_have_one_sha256_however_many_files_they_are_in() -> None:
    shards = {f"variables/variables.data-0000{n}-of-00002": File(sha256=f"{n}" * 64, bytes=1) for n in (0, 1)}
    first = dict(list(shards.items())[:1])
    assert whole().weights_sha256 is None
    assert whole().model_copy(update={"files": FILES | first}).weights_sha256 == "0" * 64
    both = whole().model_copy(update={"files": FILES | shards}).weights_sha256
    assert both == whole().model_copy(update={"files": FILES | dict(reversed(shards.items()))}).weights_sha256
    assert both not in ("0" * 64, "1" * 64)
