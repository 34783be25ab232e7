"""Which processes have a file or a socket open, as far as this user may know."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple


class Holder(NamedTuple):
    """A process."""

    pid: int
    name: str
    arguments: list[str]

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"

    @property
    def is_edged(self) -> bool:
        """Whether it is a daemon, or a process of one's: `edged run`, `python -m edged.audio...`"""
        program, *others = self.arguments or [""]
        if others[:1] == ["-m"]:
            return others[1].partition(".")[0] == "edged"
        return "edged" in {Path(program).name, *(Path(other).name for other in others[:1])}


def process(pid: int) -> Holder:
    """One. Raises OSError when there is none."""
    folder = Path(f"/proc/{pid}")
    arguments = (folder / "cmdline").read_text().rstrip("\0").split("\0")
    return Holder(pid, (folder / "comm").read_text().strip(), arguments)


def opened(pid: int) -> Iterator[str]:
    """What a process has open: paths, and socket:[INODE]."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(entry.readlink())


def who_has(is_wanted: Callable[[str], bool]) -> Iterator[Holder]:
    """Every process that has such a thing open."""
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if any(map(is_wanted, opened(pid))):
            with contextlib.suppress(OSError):
                yield process(pid)
