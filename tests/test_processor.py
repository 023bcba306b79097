from pathlib import Path

from training.processor import has_bfloat16, processor_flags, processor_name


def test_flags_and_name_come_from_the_system(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("model name\t: Fine CPU\nflags\t\t: fpu avx2 avx512_bf16\n\nflags\t: other\n")
    assert processor_flags(listing) == {"fpu", "avx2", "avx512_bf16"}
    assert processor_name(listing) == "Fine CPU"


def test_a_system_that_lists_nothing_has_no_flags(tmp_path: Path) -> None:
    assert processor_flags(tmp_path / "none") == frozenset()
    assert processor_name(tmp_path / "none")


def test_bfloat16_needs_hardware() -> None:
    assert has_bfloat16(frozenset({"avx512_bf16"}))
    assert has_bfloat16(frozenset({"amx_bf16"}))
    assert not has_bfloat16(frozenset({"avx2", "avx512f"}))
