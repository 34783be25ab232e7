"""The processor: what it can compute, and which of its cores are the big ones."""

from __future__ import annotations

import re

import msgspec

from edged.hardware.root import Root

CPUS = "sys/devices/system/cpu"
X86_FEATURES = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16"),
)
"""Words of `flags` in /proc/cpuinfo that decide how fast a precision is"""
ARM_FEATURES = ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2")
"""Words of `Features`: NEON, fp16 arithmetic, dot products, int8 matrices, bfloat16, SVE"""
BIG_SHARE = 0.8
"""A core is big from this share of the strongest core's strength"""
PARTS = {
    # Implementer and part, from the kernel's arch/arm64/include/asm/cputype.h
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x4E, 0x004): "Carmel",
    (0x51, 0x804): "Kryo 4xx Gold",
    (0x51, 0x805): "Kryo 4xx Silver",
}


class Cluster(msgspec.Struct, frozen=True):
    """Cores of one kind."""

    cpus: list[int]
    """Numbers of logical processors"""
    big: bool
    max_megahertz: int | None


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """The processor."""

    name: str
    features: list[str]
    threads: int
    """Logical processors that are online"""
    cores: int
    """Physical ones"""
    clusters: list[Cluster]
    """The strongest first"""

    @property
    def big(self) -> list[int]:
        """The logical processors worth pinning to; all where there is one kind."""
        return sorted(cpu for cluster in self.clusters if cluster.big for cpu in cluster.cpus)


def read(root: Root) -> Cpu:
    """The processor, as far as files tell."""
    blocks = _blocks(root.text("proc/cpuinfo") or "")
    online = parse_list(root.text(f"{CPUS}/online")) or list(range(len(blocks))) or [0]
    return Cpu(
        name=_name(blocks),
        features=_features(blocks),
        threads=len(online),
        cores=_physical(root, online),
        clusters=_clusters(root, online, blocks),
    )


def parse_list(text: str | None) -> list[int]:
    """The kernel's list format: "0-3,8" is 0, 1, 2, 3 and 8. What is no number is left out."""
    cpus: list[int] = []
    for part in (text or "").split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if match:
            first, last = match.groups()
            cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def _blocks(cpuinfo: str) -> list[dict[str, str]]:
    """The lines of each processor in /proc/cpuinfo."""
    blocks = []
    for text in re.split(r"\n\s*\n", cpuinfo):
        pairs = (line.partition(":") for line in text.splitlines())
        block = {key.strip(): value.strip() for key, _, value in pairs}
        if "processor" in block:
            blocks.append(block)
    return blocks


def _name(blocks: list[dict[str, str]]) -> str:
    names = [block.get("model name") or _part_name(block) for block in blocks]
    return " + ".join(dict.fromkeys(name for name in names if name)) or "unknown"


def _part(block: dict[str, str]) -> tuple[int, int] | None:
    try:
        return int(block["CPU implementer"], 16), int(block["CPU part"], 16)
    except (KeyError, ValueError):
        return None


def _part_name(block: dict[str, str]) -> str:
    part = _part(block)
    if not part:
        return ""
    return PARTS.get(part, f"Arm implementer {part[0]:#x} part {part[1]:#x}")


def _features(blocks: list[dict[str, str]]) -> list[str]:
    """What every core can do: a thread may run on any of them."""
    words = [set((b.get("flags") or b.get("Features") or "").split()) for b in blocks]
    common = set.intersection(*words) if words else set()
    return [word for word in (*X86_FEATURES, *ARM_FEATURES) if word in common]


def _physical(root: Root, online: list[int]) -> int:
    cores = {
        (
            root.number(f"{CPUS}/cpu{cpu}/topology/physical_package_id"),
            # Arm numbers cores anew in each cluster.
            root.number(f"{CPUS}/cpu{cpu}/topology/cluster_id"),
            root.number(f"{CPUS}/cpu{cpu}/topology/core_id"),
        )
        for cpu in online
    }
    return len(online) if any(core is None for _, _, core in cores) else len(cores)


def _clusters(root: Root, online: list[int], blocks: list[dict[str, str]]) -> list[Cluster]:
    megahertz = {cpu: _megahertz(root, cpu) for cpu in online}
    groups = _hybrid(root, online) or _alike(root, online, blocks, megahertz)
    clusters = [
        Cluster(cpus, strength >= BIG_SHARE, max(megahertz[c] or 0 for c in cpus) or None)
        for strength, cpus in groups
    ]
    return sorted(clusters, key=lambda c: (not c.big, -(c.max_megahertz or 0), c.cpus))


def _megahertz(root: Root, cpu: int) -> int | None:
    kilohertz = root.number(f"{CPUS}/cpu{cpu}/cpufreq/cpuinfo_max_freq")
    return kilohertz // 1000 if kilohertz else None


def _hybrid(root: Root, online: list[int]) -> list[tuple[float, list[int]]]:
    """Intel's performance and efficiency cores, which have counters of their own."""
    kinds = (1.0, "cpu_core"), (0.0, "cpu_atom"), (0.0, "cpu_lowpower")
    groups = [
        (
            strength,
            [cpu for cpu in parse_list(root.text(f"sys/devices/{name}/cpus")) if cpu in online],
        )
        for strength, name in kinds
    ]
    return [(strength, cpus) for strength, cpus in groups if cpus]


def _alike(
    root: Root, online: list[int], blocks: list[dict[str, str]], megahertz: dict[int, int | None]
) -> list[tuple[float, list[int]]]:
    """Cores grouped by capacity, else by kind and clock, with their share of the strongest's."""
    parts = {int(b["processor"]): _part(b) for b in blocks if b["processor"].isdecimal()}
    if not any(parts.values()):
        # x86: clocks that differ are turbo limits of cores of one kind.
        return [(1.0, online)]
    capacity = {cpu: root.number(f"{CPUS}/cpu{cpu}/cpu_capacity") for cpu in online}
    known = capacity if all(capacity.values()) else megahertz
    strongest = max(value or 0 for value in known.values()) or 1
    strength = {cpu: (known[cpu] or strongest) / strongest for cpu in online}
    groups: dict[tuple[object, float], list[int]] = {}
    for cpu in online:
        groups.setdefault((parts.get(cpu), strength[cpu]), []).append(cpu)
    return [(share, cpus) for (_, share), cpus in groups.items()]
