"""What goes on at the same time on one connection, until any of it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from starlette.websockets import WebSocketDisconnect


async def race(*awaitables: Awaitable[None]) -> None:
    """Run until the first is over, then end the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not _is_disconnect(result):
            raise result


def _is_disconnect(error: Exception) -> bool:
    # Starlette raises RuntimeError for a send after the close that a client's end brought about.
    return isinstance(error, (WebSocketDisconnect, RuntimeError))
