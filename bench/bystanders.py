"""Clients that only listen, in a process of their own: `python -m bench.bystanders URL IDLE`.

Half of the idle ones follow the microphone over WebSocket, half by server-sent events, and read
what comes. One more of each kind takes nothing of what it is sent, and is back once it is cut off.
Says `ready` when all are connected; ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from urllib.parse import urlsplit

UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
WAYS = {"/v1/transcripts": UPGRADE, "/v1/transcripts/events": ()}
"""The headers of each way to follow the microphone"""


async def main(url: str, idle: int) -> None:
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    tasks = []
    for number in range(idle):
        path = list(WAYS)[number % len(WAYS)]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(_request(path, host, port))
        assert await reader.readline() in {b"HTTP/1.1 101 Switching Protocols\r\n", OK}
        tasks.append(asyncio.create_task(_read(reader)))
    tasks += [asyncio.create_task(_take_nothing(path, host, port)) for path in WAYS]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()


OK = b"HTTP/1.1 200 OK\r\n"


def _request(path: str, host: str, port: int) -> bytes:
    lines = (f"GET {path}?words=1 HTTP/1.1", f"Host: {host}:{port}", *WAYS[path], "", "")
    return "\r\n".join(lines).encode()


async def _read(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


async def _take_nothing(path: str, host: str, port: int) -> None:
    while True:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # as little as there can be
            sock.connect((host, port))
            sock.sendall(_request(path, host, port))
            with contextlib.suppress(OSError):
                while True:
                    await asyncio.sleep(1)
                    sock.send(b"")  # raises once the connection is gone
                    if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        raise OSError(error)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
