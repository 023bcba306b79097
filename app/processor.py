"""What the processor can do, as the system says."""

from pathlib import Path
from typing import Final

CPU_INFO: Final = Path("/proc/cpuinfo")
# Whoever has these multiplies 8-bit integers, or a register of 64 of them, in one step.
_MADE_FOR_NETWORKS: Final = frozenset({"avx512bw", "avx512_vnni", "avx_vnni"})


def flags(cpu_info: Path = CPU_INFO) -> frozenset[str]:
    """The feature flags of the first processor, empty where the system does not list them."""
    try:
        text = cpu_info.read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


def has_avx2_alone(flags: frozenset[str]) -> bool:
    """Whether it has AVX2 and nothing that is newer and faster at whole numbers."""
    return "avx2" in flags and not flags & _MADE_FOR_NETWORKS
