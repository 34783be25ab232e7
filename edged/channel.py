"""Messages over a Unix socket that keeps their boundaries, with descriptors when needed.

`Channel` blocks, for the child processes; `AsyncChannel` serves the daemon's event loop and never
waits: what a stuck child does not take is kept, and a newer sample count replaces an older one.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from edged.messages import Audio, Message, encode

LARGEST_MESSAGE = 192 * 1024
"""Bytes; below the kernel's default for one message"""
_READS_PER_WAKE = 256

T = TypeVar("T")


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends: one for the daemon, one for the child."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _send(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights)


class Channel(Generic[T]):
    """The child's end."""

    def __init__(self, sock: socket.socket, decode: Callable[[bytes], T]) -> None:
        self._socket = sock
        self._decode = decode
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def send(self, message: Message) -> None:
        """Send one message. Raises OSError when the daemon is gone."""
        self._socket.send(encode(message))

    def wait(self, other: int) -> None:
        """Until there is a message, or another descriptor can be read."""
        self._poll.register(other, select.POLLIN)
        self._poll.poll()
        self._poll.unregister(other)

    def receive(self, timeout: float | None = None) -> tuple[T, list[int]] | None:
        """The next message and its descriptors, or None after `timeout` seconds.

        Raises EOFError when the daemon is gone.
        """
        if timeout is not None and not self._poll.poll(timeout * 1000):
            return None
        data, fds, _, _ = socket.recv_fds(self._socket, LARGEST_MESSAGE, 4)
        if not data:
            raise EOFError
        return self._decode(data), fds


class AsyncChannel(Generic[T]):
    """The daemon's end."""

    def __init__(
        self,
        sock: socket.socket,
        decode: Callable[[bytes], T],
        on_message: Callable[[T], None],
        on_end: Callable[[], None],
    ) -> None:
        import asyncio  # the child processes do without it, and start the sooner

        sock.setblocking(False)
        self._socket = sock
        self._decode = decode
        self._on_message = on_message
        self._on_end = on_end
        self._waiting: deque[tuple[bytes, Sequence[int]]] = deque()
        self._counts: dict[int, Audio] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send now, or keep it until the child takes it."""
        if self._closed:
            return
        if self._waiting or self._counts:
            self._keep(message, fds)
            return
        try:
            _send(self._socket, encode(message), fds)
        except BlockingIOError:
            self._keep(message, fds)
            self._loop.add_writer(self._socket, self._writable)
        except OSError as error:
            _check_gone(error)

    def _keep(self, message: Message, fds: Sequence[int]) -> None:
        if isinstance(message, Audio):
            self._counts[message.stream] = message
        else:
            # A descriptor may be closed, and its number used again, before this is sent.
            self._waiting.append((encode(message), [os.dup(fd) for fd in fds]))

    def _writable(self) -> None:
        try:
            while self._waiting:
                _send(self._socket, *self._waiting[0])
                _close_all(self._waiting.popleft()[1])
            while self._counts:
                stream, message = next(iter(self._counts.items()))
                _send(self._socket, encode(message), ())
                del self._counts[stream]
        except BlockingIOError:
            return
        except OSError as error:
            _check_gone(error)
            self._forget()
        self._loop.remove_writer(self._socket)

    def _forget(self) -> None:
        for _, fds in self._waiting:
            _close_all(fds)
        self._waiting.clear()
        self._counts.clear()

    def _readable(self) -> None:
        for _ in range(_READS_PER_WAKE):
            if self._closed:
                return
            try:
                data = self._socket.recv(LARGEST_MESSAGE)
            except BlockingIOError:
                return
            except ConnectionResetError:
                # It has left something of ours unread, which is said before its own last words.
                continue
            except OSError:
                data = b""
            if not data:
                self.close()
                self._on_end()
                return
            self._on_message(self._decode(data))

    @property
    def _closed(self) -> bool:
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Hang up; the child sees the end of its socket."""
        if not self._closed:
            self._loop.remove_reader(self._socket)
            with contextlib.suppress(ValueError, OSError):
                self._loop.remove_writer(self._socket)
            self._socket.close()
            self._forget()


def _check_gone(error: OSError) -> None:
    """The other end has gone, which reading will tell; anything else is a fault of ours."""
    if error.errno not in {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN}:
        raise error


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def attach(fd: int, decode: Callable[[bytes], Any]) -> Channel[Any]:
    """The child's end, from the descriptor it was started with."""
    return Channel(socket.socket(fileno=fd), decode)
