"""Sees what a process and its children send beyond this machine, by their system calls."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

CALLS = "connect,sendto,sendmsg,sendmmsg"
_HERE = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "(::1|::ffff:127\.[0-9.]+)"')
_NAMES = re.compile(r'htons\(53\)|sun_path="[^"]*(nscd|systemd\.Resolve|systemd/resolve)')
"""Who asks for a name asks for somebody elsewhere, even if the one that is asked is here"""


class WireTap:
    """`command` goes before what is watched, whose process stays the one that was started."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "system-calls"
        self.command = (
            *("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", "signal=none"),
            *("-e", f"trace={CALLS}", "-o", str(self._file)),
        )

    def lines(self) -> list[str]:
        """What was written, once the one that writes has come to its end."""
        before = None
        while before != (now := self._file.read_text("utf-8", "replace")):
            before = now
            time.sleep(0.2)
        return now.splitlines()

    def beyond(self) -> list[str]:
        """The system calls that look or reach beyond this machine."""
        return [line for line in self.lines() if _goes_beyond(line)]


def _goes_beyond(line: str) -> bool:
    if _NAMES.search(line):
        return True
    return bool(re.search("sa_family=AF_INET6?,", line)) and not _HERE.search(line)


def tap(folder: Path) -> WireTap:
    """A wire tap; skips where processes may not be watched."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing. Run: sudo apt-get install strace")
    found = WireTap(folder)
    tried = subprocess.run([*found.command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"processes cannot be watched here: {tried.stderr.strip()}")
    return found
