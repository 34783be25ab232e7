"""The HTTP server stops whatever its clients are in the middle of."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from edged.api.server import HttpServer
from edged.config import ServerSection

FLOOD = 4 << 20
"""Bytes: more than the sockets between two programs hold"""


async def flood(_scope: Any, receive: Any, send: Any) -> None:
    """An application that sends more than its client reads, and then hears what it says."""
    await receive()
    await send({"type": "websocket.accept"})
    sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(FLOOD)}))
    while (await receive())["type"] != "websocket.disconnect":
        pass
    sending.cancel()


class Client:
    """One that reads nothing more once it is connected."""

    def __init__(self, port: int) -> None:
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/"), max_size=None)
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setblocking(False)

    async def connect(self) -> None:
        self._protocol.send_request(self._protocol.connect())
        await self._write()
        loop = asyncio.get_running_loop()
        while self._protocol.state is not State.OPEN:
            self._protocol.receive_data(await loop.sock_recv(self._socket, 256))

    async def hang_up(self) -> None:
        self._protocol.send_close(1000)
        await self._write()

    def close(self) -> None:
        self._socket.close()

    async def _write(self) -> None:
        for data in self._protocol.data_to_send():
            await asyncio.get_running_loop().sock_sendall(self._socket, data)


def test_a_client_that_has_hung_up_and_reads_nothing_does_not_disturb_the_end() -> None:
    """Its answer is still to be sent when the server stops: uvicorn would say goodbye again, which
    its own library takes for a mistake."""

    async def main() -> None:
        server = HttpServer(ServerSection(port=0, unix_socket=""), flood)
        serving = asyncio.create_task(server.serve())
        await server.started()
        client = Client(server.port)
        await client.connect()
        await client.hang_up()
        await asyncio.sleep(0.2)
        server.stop()
        await asyncio.wait_for(serving, 10)
        client.close()

    asyncio.run(main())
