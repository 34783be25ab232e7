"""Who listens on TCP here, as the kernel tells."""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edged.doctor.holders import Holder, who_has

LISTEN = "0A"
"""TCP_LISTEN in /proc/net/tcp"""


class Listening(NamedTuple):
    """A socket that listens."""

    address: str
    port: int
    link: str
    """What a descriptor of it is called: socket:[INODE]"""


def listening() -> Iterator[Listening]:
    """Everything that listens."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN:
                    address, _, port = fields[1].partition(":")
                    yield Listening(_address(address), int(port, 16), f"socket:[{fields[9]}]")


def _address(text: str) -> str:
    """An address of /proc/net/tcp: words of 32 bits in the machine's own order."""
    words = (int(text[first : first + 8], 16) for first in range(0, len(text), 8))
    return str(ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words)))


def holder_of(port: int) -> Holder | None:
    """The process that listens on a port, where it may be known."""
    links = {one.link for one in listening() if one.port == port}
    return next(who_has(links.__contains__), None)
