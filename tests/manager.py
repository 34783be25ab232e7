"""A service manager for tests: what systemd gives a service and hears from it, without systemd.

Run as a program it is what systemd is between fork and exec: it puts the passed descriptors where
sd_listen_fds(3) wants them, and says for whom they are.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FIRST = 3
CREDENTIALS = struct.Struct("3i")
Notification = dict[str, str]


class Manager:
    """Hears what a service says of itself, and from which process."""

    def __init__(self, folder: Path) -> None:
        self.heard: list[Notification] = []
        self.senders: set[int] = set()
        self._path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(self._path))
        threading.Thread(target=self._listen, daemon=True).start()

    def launcher(
        self, sockets: Mapping[str, Sequence[socket.socket]], watchdog: float | None
    ) -> tuple[list[str], list[int]]:
        """What stands before a command that is started as a service, and the descriptors that it is
        to inherit. `watchdog` in seconds."""
        descriptors = [sock.fileno() for group in sockets.values() for sock in group]
        names = ":".join(name for name, group in sockets.items() for _ in group)
        settings = [f"NOTIFY_SOCKET={self._path}", f"LISTEN_FDNAMES={names}"]
        settings += [f"WATCHDOG_USEC={round(watchdog * 1e6)}"] if watchdog else []
        passed = ",".join(map(str, descriptors))
        return [sys.executable, __file__, passed, " ".join(settings)], descriptors

    def _listen(self) -> None:
        while True:
            try:
                data, rights, _, _ = self._socket.recvmsg(
                    65536, socket.CMSG_SPACE(CREDENTIALS.size)
                )
            except OSError:
                return
            self.senders.add(CREDENTIALS.unpack(rights[0][2])[0])
            lines = data.decode().splitlines()
            self.heard.append(dict(line.split("=", 1) for line in lines))

    def told(self, key: str) -> list[str]:
        """All that was said of this."""
        return [notification[key] for notification in self.heard if key in notification]

    def wait(self, key: str, count: int = 1, seconds: float = 60.0) -> str:
        """What was said of this for the nth time."""
        deadline = time.monotonic() + seconds
        while len(self.told(key)) < count:
            assert time.monotonic() < deadline, f"{key} was not said: {self.heard}"
            time.sleep(0.01)
        return self.told(key)[count - 1]

    def close(self) -> None:
        self._socket.close()


def main(passed: str, settings: str, *command: str) -> Any:
    """Become the command."""
    descriptors = [int(number) for number in passed.split(",") if number]
    aside = [os.dup2(fd, 200 + number) for number, fd in enumerate(descriptors)]
    for fd in descriptors:
        os.close(fd)
    for number, fd in enumerate(aside):
        os.dup2(fd, FIRST + number, inheritable=True)
        os.close(fd)
    own = dict(setting.split("=", 1) for setting in settings.split(" "))
    own["WATCHDOG_PID"] = str(os.getpid())
    if descriptors:
        own |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(descriptors))}
    os.execve(command[0], command, {**os.environ, **own})


if __name__ == "__main__":
    main(*sys.argv[1:])
