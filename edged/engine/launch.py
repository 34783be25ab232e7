"""The start of a worker's Python, which may come before anybody knows what it will run.

It takes as long to import what every rung needs as the daemon takes to read its configuration and
choose one, so both do at the same time. Light, so that it can be first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from edged.channel import channel_pair


@dataclass(frozen=True, slots=True)
class Launched:
    """A worker that waits for its order, `messages.Load`."""

    process: asyncio.subprocess.Process
    socket: socket.socket
    """The daemon's end; the worker leaves when it is closed"""

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def dismiss(self) -> None:
        """End it, unless it has ended."""
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


async def launch(
    python: str = sys.executable, environment: Mapping[str, str] = os.environ
) -> Launched:
    """Start one. Raises OSError when the system cannot."""
    ours, theirs = channel_pair()
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                python,
                "-m",
                "edged.engine.worker",
                f"--socket={theirs.fileno()}",
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=worker_environment(environment),
            )
    except BaseException:  # cancelled: a worker that was started leaves when this is closed
        ours.close()
        raise
    return Launched(process, ours)


def worker_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Few malloc arenas and no OpenMP pools: a worker's threads are its sessions'."""
    return {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", **inherited, "PYTHONUNBUFFERED": "1"}
