"""Memory, and how much of it this process may have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from edged.hardware.root import Root

UNIFIED = "sys/fs/cgroup"
OLD = "sys/fs/cgroup/memory"
"""Version 1 of control groups has a tree for each resource"""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory, in bytes."""

    total_bytes: int
    available_bytes: int
    """What the kernel could hand out without swapping"""
    limit_bytes: int | None = None
    """What a control group allows, where that is less than all"""


def read(root: Root) -> Memory:
    """Memory as it is now."""
    lines = re.findall(r"(?m)^(\w+):\s+(\d+) kB", root.text("proc/meminfo") or "")
    size = {name: int(kilobytes) << 10 for name, kilobytes in lines}
    total = size.get("MemTotal", 0)
    available = size.get("MemAvailable", 0)
    limit = min(_limits(root), default=None)
    return Memory(
        total_bytes=total,
        available_bytes=available,
        limit_bytes=limit if limit is not None and limit < total else None,
    )


def _limits(root: Root) -> Iterator[int]:
    """The limits of our own control group and of those around it."""
    for file in dict.fromkeys(_limit_files(root.text("proc/self/cgroup") or "")):
        limit = root.number(file)  # "max" is no number
        if limit is not None:
            yield limit


def _limit_files(groups: str) -> Iterator[str]:
    # A container sees its own group as the top, under a path that is not there.
    yield f"{UNIFIED}/memory.max"
    yield f"{OLD}/memory.limit_in_bytes"
    for line in groups.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        top, name = (UNIFIED, "memory.max") if not controllers else (OLD, "memory.limit_in_bytes")
        if controllers in ("", "memory"):
            folder = PurePosixPath(path.lstrip("/"))
            yield from (f"{top}/{part}/{name}" for part in (folder, *folder.parents) if part.name)
