"""What the processor can do, as serving (`app.processor`) and training (`training.processor`) ask."""

from pathlib import Path

import pytest

from app.processor import flags, has_avx2_alone
from training.processor import has_bfloat16, processor_name


def test_flags_and_name_come_from_the_system(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("model name\t: Fine CPU\nflags\t\t: fpu avx2 avx512_bf16\n\nflags\t: other\n")
    assert flags(listing) == {"fpu", "avx2", "avx512_bf16"}
    assert processor_name(listing) == "Fine CPU"


def test_a_system_that_lists_nothing_has_no_flags(tmp_path: Path) -> None:
    assert flags(tmp_path / "none") == frozenset()
    assert processor_name(tmp_path / "none")


def test_bfloat16_needs_hardware() -> None:
    assert has_bfloat16(frozenset({"avx512_bf16"}))
    assert has_bfloat16(frozenset({"amx_bf16"}))
    assert not has_bfloat16(frozenset({"avx2", "avx512f"}))


def test_an_arm_processor_lists_its_features(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nFeatures\t: fp asimd sve\n")
    assert flags(listing) == {"fp", "asimd", "sve"}


@pytest.mark.parametrize("newer", ["avx512bw", "avx512_vnni", "avx_vnni"])
def test_avx2_is_alone_where_nothing_newer_is_faster_at_whole_numbers(newer: str) -> None:
    assert has_avx2_alone(frozenset({"avx", "avx2", "fma", "vaes"}))
    assert not has_avx2_alone(frozenset({"avx2", newer}))
    assert not has_avx2_alone(frozenset({newer}))
    assert not has_avx2_alone(frozenset({"avx", "fma"}))
    assert not has_avx2_alone(frozenset())
