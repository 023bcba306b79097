from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import deployment
from app.deployment import Deployment, Policy
from app.errors import DeploymentError, SettingsError
from app.settings import Settings

NUMBERS = st.integers(1, 2**63 - 1)
DEPLOYMENTS = st.builds(
    Deployment,
    live=st.none() | NUMBERS,
    labels=st.dictionaries(st.from_regex(deployment.LABEL_PATTERN, fullmatch=True), NUMBERS, max_size=3),
    loaded=st.frozensets(NUMBERS, max_size=3),
    unloaded=st.frozensets(NUMBERS, max_size=3),
    serve=st.booleans(),
)


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder, deployment.FILE_NAME)


def test_without_a_file_nothing_was_decided(tmp_path: Path) -> None:
    assert deployment.read(tmp_path / deployment.FILE_NAME) == Deployment()


@given(decided=DEPLOYMENTS)
def test_what_is_written_is_read_again_and_nothing_else_is_left(path: Path, decided: Deployment) -> None:
    deployment.write(path, decided)
    assert deployment.read(path) == decided
    assert [child.name for child in path.parent.iterdir()] == [deployment.FILE_NAME]


@given(data=st.binary(max_size=100))
def test_any_bytes_are_decisions_or_a_clear_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(DeploymentError, match=r"cannot be used: .*It should look like"):
        deployment.read(path)


def test_a_file_of_any_size_costs_little(tmp_path: Path) -> None:
    path = tmp_path / deployment.FILE_NAME
    with path.open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(DeploymentError, match="more than 1,048,576 bytes"):
        deployment.read(path)


def test_a_folder_that_takes_nothing_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeploymentError, match="Not a directory"):
        deployment.write(tmp_path / "file" / deployment.FILE_NAME, Deployment())


def test_of_changes_that_are_made_at_the_same_time_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / deployment.FILE_NAME

    def decide(worker: int) -> None:
        for turn in range(10):
            with deployment.locked(tmp_path):
                now = deployment.read(path)
                deployment.write(path, now.changed(labels={**now.labels, f"{worker}-{turn}": 1}))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decide, range(4)))
    assert len(deployment.read(path).labels) == 40


@pytest.mark.parametrize(
    ("text", "candidates", "kept"),
    [
        ("latest", [5, 3, 2, 1], []),
        ("latest:1", [5, 3, 2, 1], []),
        ("latest:2", [5, 3, 2, 1], [5, 3]),
        ("latest:9", [5, 3, 2, 1], [5, 3, 2, 1]),
        ("all", [5, 3, 2, 1], [5, 3, 2, 1]),
        ("2,3", [3, 2], [3, 2]),
        ("7", [7], [7]),
    ],
)
def test_a_policy_chooses_among_what_is_published(text: str, candidates: list[int], kept: list[int]) -> None:
    policy = Policy.parse(Settings.load(version_policy=text).version_policy)
    assert policy.candidates([1, 2, 3, 5]) == candidates
    assert policy.kept([1, 2, 3, 5]) == kept


@pytest.mark.parametrize("text", ["", "newest", "latest:0", "latest:", "0", "1,", "1, 2", "-1", "all,1"])
def test_a_policy_that_makes_no_sense_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="CLASSIFIER_VERSION_POLICY cannot be"):
        Settings.load(version_policy=text)


def test_a_key_that_is_too_short_is_refused_without_being_shown() -> None:
    with pytest.raises(
        SettingsError, match="CLASSIFIER_ADMIN_KEY must have at least 16 characters"
    ) as refused:
        Settings.load(admin_key="swordfish")
    assert "swordfish" not in str(refused.value)
