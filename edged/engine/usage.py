"""What a process and its children use, from /proc."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from edged.engine.process import family

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, or of several together."""

    resident_bytes: int = 0
    proportional_bytes: int = 0
    """With what is shared, divided by how many share it"""
    processor_seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.resident_bytes + other.resident_bytes,
            self.proportional_bytes + other.proportional_bytes,
            self.processor_seconds + other.processor_seconds,
        )


def of(pid: int, children: bool = True) -> Usage | None:
    """What it uses now; None when it is gone."""
    found = [_of_one(each) for each in (family(pid) if children else [pid])]
    known = [usage for usage in found if usage is not None]
    return sum(known, Usage()) if known else None


def _of_one(pid: int) -> Usage | None:
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        pages = int((folder / "statm").read_text("ascii").split()[1])
        rollup = (folder / "smaps_rollup").read_text("ascii")
    except (OSError, IndexError):
        return None
    shared = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    ticks = int(fields[11]) + int(fields[12])
    return Usage(pages * PAGE, int(shared[1]) << 10 if shared else 0, ticks / TICKS)
