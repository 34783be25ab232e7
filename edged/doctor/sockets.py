"""Who listens on TCP here, as the kernel tells."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LISTEN = "0A"
"""TCP_LISTEN in /proc/net/tcp"""


class Listening(NamedTuple):
    """A socket that listens."""

    address: str
    port: int
    inode: str


class Holder(NamedTuple):
    """A process."""

    pid: int
    name: str
    command: str


def listening() -> Iterator[Listening]:
    """Everything that listens."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN:
                    address, _, port = fields[1].partition(":")
                    yield Listening(_address(address), int(port, 16), fields[9])


def _address(text: str) -> str:
    """An address of /proc/net/tcp: words of 32 bits in the machine's own order."""
    words = (int(text[first : first + 8], 16) for first in range(0, len(text), 8))
    return str(ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words)))


def sockets_of(pid: int) -> Iterator[str]:
    """Inodes of a process's sockets, where they may be seen."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if match := re.fullmatch(r"socket:\[(\d+)\]", entry.readlink().name):
                    yield match[1]


def holder_of(port: int) -> Holder | None:
    """The process that listens on a port, where it may be known."""
    inodes = {one.inode for one in listening() if one.port == port}
    for process in Path("/proc").glob("[0-9]*"):
        if not inodes.isdisjoint(sockets_of(int(process.name))):
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text().strip()
                return Holder(int(process.name), name, (process / "cmdline").read_text())
    return None
