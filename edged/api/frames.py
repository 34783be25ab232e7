"""What a WebSocket's client sends."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.websockets import WebSocket


async def frames(websocket: WebSocket) -> AsyncIterator[bytes | str]:
    """Frame by frame until the client is gone: audio as bytes, orders as text."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        audio, text = message.get("bytes"), message.get("text")
        if audio is not None:
            yield audio
        elif text is not None:
            yield text
