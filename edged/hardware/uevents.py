"""The kernel's word that a device came or went, as udev hears it."""

from __future__ import annotations

import socket

from edged.log import get_logger

log = get_logger(__name__)

KOBJECT_UEVENT = 15
"""Netlink's number for them (linux/netlink.h); Python has no name for it"""
KERNEL_GROUP = 1
LARGEST_EVENT = 8192
ABOUT_DEVICES = {"add", "remove", "bind", "unbind"}


class Uevents:
    """Listens without waiting. Where the kernel does not tell, as in some containers, silent."""

    def __init__(self) -> None:
        self._socket = _listen()

    def heard(self) -> bool:
        """Whether a device has come or gone since the last call."""
        heard = False
        while self._socket:
            try:
                heard |= action(self._socket.recv(LARGEST_EVENT)) in ABOUT_DEVICES
            except BlockingIOError:
                break
            except OSError:  # more events than it could keep
                return True
        return heard

    def close(self) -> None:
        if self._socket:
            self._socket.close()


def action(event: bytes) -> str:
    """What happened: add, remove, change; the event begins `add@/devices/...`."""
    return event.partition(b"@")[0].decode("ascii", "replace")


def _listen() -> socket.socket | None:
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, KOBJECT_UEVENT)
    except OSError as error:
        log.debug("the kernel does not tell of devices: %s", error)
        return None
    try:
        sock.bind((0, KERNEL_GROUP))
        sock.setblocking(False)
    except OSError as error:
        log.debug("the kernel does not tell of devices: %s", error)
        sock.close()
        return None
    return sock
