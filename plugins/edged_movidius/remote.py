"""The process that runs graphs in the other Python (`host.py`), as this side holds it."""

from __future__ import annotations

import array
import contextlib
import json
import mmap
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edged.errors import ProviderError
from edged.provider import Shape

HOST = Path(__file__).with_name("host.py")
LARGEST_ANSWER = 1 << 20
ALIGNMENT = 64
"""Bytes: what the widest vector instructions like best"""
END_SECONDS = 5.0
Described = tuple[str, Shape]
"""A tensor's dtype in numpy's word, and its shape"""


class Remote:
    """One process. It dies with the thread that started it, and that thread's process."""

    def __init__(self, python: Path) -> None:
        """Start it. Raises ProviderError where that cannot be done."""
        self._python = python
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [python, "-E", "-s", str(HOST), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    # What a library prints is for the log.
                    stdout=sys.__stderr__ or subprocess.DEVNULL,
                )
            except OSError as error:
                self._socket.close()
                raise ProviderError(
                    f"{python} cannot be started ({error.strerror}). "
                    "Run: edged workers create movidius"
                ) from error

        self.end = weakref.finalize(self, _end, self._socket, self._process)
        """Hang up, as happens too when nobody holds this object any more"""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, descriptor: int | None = None, **order: Any) -> dict[str, Any]:
        """Give an order and wait for its answer, however long. Raises ProviderError."""
        message = json.dumps({"do": do, **order}).encode()
        rights = [] if descriptor is None else [descriptor]
        try:
            if self._socket.fileno() < 0:
                raise self._dead()
            self._socket.sendmsg(
                [message],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", rights))] * len(rights),
            )
            said = self._socket.recv(LARGEST_ANSWER)
        except OSError as error:
            raise self._dead() from error
        if not said:
            raise self._dead()
        answer: dict[str, Any] = json.loads(said)
        if "error" in answer:
            raise ProviderError(f"OpenVINO 2021.4 in {self._python}: {answer['error']}")
        return answer

    def _dead(self) -> ProviderError:
        self.end()
        return ProviderError(
            f"The process of {self._python} that runs the graphs is gone "
            f"(it left with {self._process.returncode}); its log has its last words"
        )


def _end(sock: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """The end of the socket is its order to leave."""
    sock.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class SharedTensors:
    """Arrays in memory that the other process has too. They live as long as anyone holds one."""

    def __init__(self, tensors: Mapping[str, Described]) -> None:
        sizes = {name: _bytes(described) for name, described in tensors.items()}
        places = dict(zip(sizes, _places(sizes.values()), strict=True))
        self._descriptor = os.memfd_create("edged-tensors", os.MFD_CLOEXEC)
        os.ftruncate(self._descriptor, max(ALIGNMENT, sum(map(_aligned, sizes.values()))))
        memory = mmap.mmap(self._descriptor, 0)
        self.arrays = {
            name: np.ndarray(shape, dtype, memory, places[name])
            for name, (dtype, shape) in tensors.items()
        }
        self._places = {
            name: (dtype, shape, places[name]) for name, (dtype, shape) in tensors.items()
        }

    def give(self, remote: Remote, form: int) -> None:
        """Let a compiled graph work in it. Raises ProviderError."""
        try:
            remote.ask("memory", self._descriptor, form=form, places=self._places)
        finally:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)


def _bytes(described: Described) -> int:
    dtype, shape = described
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _places(sizes: Any) -> list[int]:
    places, end = [], 0
    for size in sizes:
        places.append(end)
        end += _aligned(size)
    return places
