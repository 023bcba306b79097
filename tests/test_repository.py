import errno
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import CARD, MODEL, publish_fake

from app.errors import (
    DamagedVersionError,
    ManifestError,
    ModelNotFoundError,
    PublishError,
    VersionNotFoundError,
)
from app.manifest import Card, Input
from app.repository import Repository


def everything_in(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_a_published_version_is_found_and_whole(repository: Repository) -> None:
    version = repository.open(MODEL)
    assert str(version) == "colours version 1"
    assert version.path == repository.root / MODEL / "1"
    assert version.manifest.class_names == CARD.class_names
    assert set(version.manifest.files) == {"weights.bin", "golden.npz"}
    assert repository.names() == [MODEL]


def test_the_newest_is_served_unless_another_is_asked_for(repository: Repository) -> None:
    for _ in range(10):
        publish_fake(repository)
    assert repository.versions(MODEL) == list(range(1, 12))
    assert repository.open(MODEL).manifest.version == 11
    assert repository.open(MODEL, 2).manifest.version == 2


def test_files_in_folders_are_published_and_checked_too(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    with repository.staging(MODEL) as staging:
        (staging.path / "variables").mkdir()
        (staging.path / "variables/weights").write_bytes(b"1")
        (staging.path / "golden.npz").write_bytes(b"2")
        staging.publish(CARD)
    assert set(repository.open(MODEL).manifest.files) == {"golden.npz", "variables/weights"}
    (tmp_path / MODEL / "1/variables/weights").write_bytes(b"3")
    with pytest.raises(DamagedVersionError, match=r"variables/weights has another sha256"):
        repository.open(MODEL)


@pytest.mark.parametrize("ending", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_whatever_stops_a_publisher_nothing_stays_behind(
    repository: Repository, ending: type[BaseException]
) -> None:
    def publish_half(name: str) -> None:
        with repository.staging(name) as staging:
            (staging.path / "half").write_bytes(b"...")
            raise ending

    before = everything_in(repository.root)
    for name in (MODEL, "another"):
        with pytest.raises(ending):
            publish_half(name)
    assert everything_in(repository.root) == before


def test_a_card_that_is_no_manifest_leaves_nothing_behind(repository: Repository) -> None:
    before = everything_in(repository.root)
    with repository.staging(MODEL) as staging:
        (staging.path / "weights.bin").write_bytes(b"...")
        with pytest.raises(ManifestError, match=r"golden\.npz is missing"):
            staging.publish(CARD)
    assert everything_in(repository.root) == before


def test_a_publisher_that_is_killed_leaves_no_version(repository: Repository) -> None:
    program = (
        "import os, sys; from pathlib import Path; from app.repository import Repository\n"
        "with Repository(Path(sys.argv[1])).staging('colours') as staging:\n"
        "    (staging.path / 'golden.npz').write_bytes(b'...'); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, repository.root], check=False, timeout=30)
    assert killed.returncode == 9
    assert len(list((repository.root / MODEL).iterdir())) == 2, "the half-made folder is there"
    assert repository.versions(MODEL) == [1]
    assert publish_fake(repository).manifest.version == 2


def test_what_a_killed_publisher_left_goes_away_with_the_next_one_and_what_is_being_filled_stays(
    repository: Repository,
) -> None:
    folder, long_ago = repository.root / MODEL, 1.0
    left, fresh = folder / ".staging-left", folder / ".staging-fresh"
    for path in (left, fresh):
        path.mkdir()
        (path / "golden.npz").write_bytes(b"...")
    os.utime(left, (long_ago, long_ago))
    with repository.staging(MODEL) as staging:
        (staging.path / "golden.npz").write_bytes(b"...")
        os.utime(staging.path, (long_ago, long_ago))
        publish_fake(repository)
        assert not left.exists()
        assert fresh.exists(), "whoever made it may not have come to locking it"
        assert staging.publish(CARD).manifest.version == 3


def test_an_error_of_the_file_system_while_a_version_is_made_is_told_as_it_is(repository: Repository) -> None:
    with pytest.raises(OSError, match="No space"), repository.staging(MODEL):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_publishers_at_the_same_time_never_harm_each_other(tmp_path: Path) -> None:
    repository, count = Repository(tmp_path), 12
    with ThreadPoolExecutor(count) as pool:
        published = list(
            pool.map(lambda one: publish_fake(repository, weights=str(one).encode()), range(count))
        )
    assert sorted(version.manifest.version for version in published) == list(range(1, count + 1))
    for one, version in enumerate(published):
        opened = repository.open(MODEL, version.manifest.version)
        assert (opened.path / "weights.bin").read_bytes() == str(one).encode()


def test_a_number_in_use_is_never_taken_even_without_a_manifest(repository: Repository) -> None:
    (repository.root / MODEL / "5").mkdir()
    assert repository.versions(MODEL) == [1]
    assert publish_fake(repository).manifest.version == 6


def test_what_is_not_a_version_is_ignored(repository: Repository) -> None:
    for name in ("latest", "02", "0", "-1", "2.tmp", ".staging-1"):
        (repository.root / MODEL / name).mkdir()
        (repository.root / MODEL / name / "manifest.json").touch()
    (repository.root / "README.md").touch()
    (repository.root / MODEL / "3").touch()
    assert repository.versions(MODEL) == [1]
    assert repository.names() == [MODEL]


class PrivateRepository(Repository):
    """One folder in it cannot be read."""

    def versions(self, name: str) -> list[int]:
        if name == "private":
            raise PermissionError(13, "Permission denied")
        return super().versions(name)


def test_a_folder_that_is_no_model_or_cannot_be_read_hides_no_other(repository: Repository) -> None:
    for name in ("lost+found", "private"):
        (repository.root / name / "1").mkdir(parents=True)
        (repository.root / name / "1/manifest.json").touch()
    assert PrivateRepository(repository.root).names() == [MODEL]
    with pytest.raises(ModelNotFoundError, match="holds colours"):
        PrivateRepository(repository.root).open("nope")


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "weights.bin").unlink(), r"weights\.bin is missing"),
        (lambda folder: (folder / "weights.bin").write_bytes(b"weight"), r"has 6 bytes .* says 7"),
        (lambda folder: (folder / "weights.bin").write_bytes(b"wEights"), r"another sha256"),
        (lambda folder: (folder / "more.bin").touch(), r"more\.bin is not in its manifest"),
        (lambda folder: (folder / "etc").symlink_to("/etc"), r"etc is not in its manifest"),
        (lambda folder: folder.rename(folder.with_name("9")), r"moved or copied by hand"),
    ],
    ids=["missing", "cut", "changed", "added", "link", "renamed"],
)
def test_a_damaged_version_is_never_opened(repository: Repository, damage: Damage, complaint: str) -> None:
    damage(repository.root / MODEL / "1")
    with pytest.raises(DamagedVersionError, match=complaint):
        repository.open(MODEL)


def test_a_link_in_place_of_a_file_is_refused(repository: Repository, tmp_path: Path) -> None:
    weights = repository.root / MODEL / "1/weights.bin"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedVersionError, match="not a regular file"):
        repository.open(MODEL)


def test_a_missing_model_says_what_there_is_and_what_to_do(repository: Repository) -> None:
    with pytest.raises(ModelNotFoundError, match=r"model nope in .*holds colours.*training/train\.py"):
        repository.open("nope")


def test_a_missing_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="holds nothing"):
        Repository(tmp_path / "nowhere").open(MODEL)


def test_a_missing_version_says_which_there_are(repository: Repository) -> None:
    with pytest.raises(VersionNotFoundError, match=r"no version 3 in .*; there is: 1\."):
        repository.open(MODEL, 3)


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", ".hidden", "x" * 101])
def test_a_name_that_could_lead_elsewhere_is_refused(repository: Repository, name: str) -> None:
    with pytest.raises(PublishError, match="cannot be called"), repository.staging(name):
        pytest.fail("the folder was made")


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PublishError, match="Not a directory"), Repository(tmp_path / "file").staging(MODEL):
        pytest.fail("the folder was made")


def test_a_card_of_another_size_keeps_it(repository: Repository) -> None:
    card = Card(class_names=("a", "b"), input=Input(height=224, width=192))
    with repository.staging("tall") as staging:
        (staging.path / "golden.npz").touch()
        assert staging.publish(card).manifest.input == Input(height=224, width=192)
