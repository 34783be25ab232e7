"""Sockets that systemd listens on for us: sd_listen_fds(3).

Each comes under the name that its socket unit gives it (`FileDescriptorName=`), which is a
protocol's: http, wyoming, vosk or sherpa.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence

from edged.errors import ConfigurationError

FIRST = 3
"""The first descriptor that is passed"""
UNNAMED = "unknown"
Sockets = Sequence[socket.socket]
Passed = Mapping[str, Sockets]
"""By protocol"""
INTERNET = {socket.AF_INET, socket.AF_INET6}


def take_sockets() -> Passed:
    """What was passed to this process, once; no child inherits it."""
    process, count, names = (
        os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    passed: defaultdict[str, list[socket.socket]] = defaultdict(list)
    if process != str(os.getpid()):
        return passed
    called = [*names.split(":"), *[UNNAMED] * int(count)]
    for number, name in zip(range(int(count)), called, strict=False):
        sock = socket.socket(fileno=FIRST + number)
        sock.set_inheritable(False)
        sock.setblocking(False)
        passed[name or UNNAMED].append(sock)
    return passed


def internet(sockets: Sockets) -> list[socket.socket]:
    """Those of TCP."""
    return [sock for sock in sockets if sock.family in INTERNET]


def local(sockets: Sockets) -> list[socket.socket]:
    """Unix sockets."""
    return [sock for sock in sockets if sock.family == socket.AF_UNIX]


def check_sockets(passed: Passed, host: str) -> None:
    """Refuse sockets that more machines reach than `server.host` allows, which decides whether a
    token is needed. Raises ConfigurationError."""
    from edged.config import is_loopback  # takes longer than a start may wait for the sockets

    for name, sockets in passed.items():
        for sock in internet(sockets):
            address = sock.getsockname()[0]
            if is_loopback(host) and not is_loopback(address):
                raise ConfigurationError(
                    f"systemd listens on {address} for {name}, which other machines reach, and "
                    f"server.host is {host}: change ListenStream= of the socket unit, or set "
                    f"server.host = {address}"
                )
