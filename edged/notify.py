"""systemd's notification protocol: one datagram to the socket named by NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(*assignments: str) -> None:
    """Send e.g. `READY=1`, `STATUS=...`; does nothing where systemd did not start us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.sendto("\n".join(assignments).encode(), address)


def is_wanted() -> bool:
    """Whether anybody listens to it."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def more_time(seconds: float) -> None:
    """Ask for so long to start, from now on."""
    notify(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")


def reloading() -> None:
    """Say that the configuration is read again; READY=1 ends it."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1", f"MONOTONIC_USEC={microseconds}")


def watchdog_seconds() -> float | None:
    """How long systemd waits for WATCHDOG=1 before it restarts us; None if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    process = os.environ.get("WATCHDOG_PID") or str(os.getpid())
    return int(microseconds) / 1e6 if microseconds and process == str(os.getpid()) else None
