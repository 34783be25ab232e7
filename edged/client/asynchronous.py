"""The client for asyncio: as the other one, word for word, but for `await`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edged.client import following
from edged.client.following import Following, read_event
from edged.client.requests import Address, Transcription, no_daemon, refusal
from edged.client.sync import CLOSE, STREAM, Client, broken_off, raise_if_fatal, without_words
from edged.messages import Closed, Event, Final, Hello


class AsyncClient:
    """Of the daemon at `url`: `http://HOST:PORT`, `unix:PATH`, else this machine's Unix socket."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        """Raises EdgedError when `url` is no address."""
        self._address = Address(url, token)
        self._blocking = Client(url, token)

    async def listen(
        self,
        *,
        partials: bool = True,
        words: bool = False,
        after: int | None = None,
        patience: float = float("inf"),
    ) -> AsyncIterator[Event]:
        """`Client.listen`."""
        seen = Following(self._address, patience, after)
        path = self._address.websocket(following.PATH, partials=partials, words=words)
        while not seen.over:
            error: Exception | None = None
            try:
                async with _connect(self._address, path) as connection:
                    async for event in self._follow(connection, seen, words):
                        yield event
            except (OSError, _closed()) as broken:
                error = broken
            if not seen.over:
                await asyncio.sleep(seen.broken(error))

    async def _follow(self, connection: Any, seen: Following, words: bool) -> AsyncIterator[Event]:
        async for data in connection:
            event = read_event(data)
            if event is not None and seen.is_new(event):
                yield event
            if isinstance(event, Hello) and (missed := seen.greeted(event)) is not None:
                for number, final in await asyncio.to_thread(self._missed, missed):
                    seen.caught_up(number)
                    yield final if words else without_words(final)

    def _missed(self, after: int) -> list[tuple[int, Final]]:
        return list(self._address.finals(after))

    async def stream(
        self,
        audio: Iterable[bytes] | AsyncIterable[bytes],
        *,
        rate: int = 16000,
        encoding: str = "s16le",
        channels: int = 1,
        partials: bool = True,
        words: bool = False,
    ) -> AsyncIterator[Event]:
        """`Client.stream`."""
        path = self._address.websocket(
            STREAM,
            rate=rate,
            encoding=encoding,
            channels=channels,
            partials=partials,
            words=words,
        )
        try:
            async with _connect(self._address, path) as connection:
                faults: list[Exception] = []
                sender = asyncio.create_task(_send(connection, audio, faults))
                try:
                    async for data in connection:
                        event = read_event(data)
                        if event is None:
                            continue
                        raise_if_fatal(event)
                        yield event
                        if isinstance(event, Closed):
                            return
                    if faults:
                        raise faults[0]
                finally:
                    sender.cancel()
        except (OSError, _closed()) as error:
            raise no_daemon(self._address, error) from error
        raise broken_off()

    async def transcribe(self, path: str | Path, *, words: bool = False) -> Transcription:
        """`Client.transcribe`."""
        return await asyncio.to_thread(self._blocking.transcribe, path, words=words)

    async def mute(self, muted: bool = True) -> None:
        """`Client.mute`."""
        await asyncio.to_thread(self._blocking.mute, muted)

    async def health(self) -> dict[str, Any]:
        """`Client.health`."""
        return await asyncio.to_thread(self._blocking.health)


async def _send(
    connection: Any, audio: Iterable[bytes] | AsyncIterable[bytes], faults: list[Exception]
) -> None:
    """All of the audio, then that it was all; what it raises ends the connection."""
    try:
        if isinstance(audio, AsyncIterable):
            async for block in audio:
                await connection.send(bytes(block))
        else:
            for block in audio:
                await connection.send(bytes(block))
        await connection.send(CLOSE)
    except (OSError, _closed()):
        pass  # whoever reads learns of it
    except Exception as error:  # noqa: BLE001  raised where the events are read
        faults.append(error)
        await connection.close()


def _closed() -> type[Exception]:
    from websockets.exceptions import ConnectionClosed

    return ConnectionClosed


@asynccontextmanager
async def _connect(address: Address, url: str) -> AsyncIterator[Any]:
    """A WebSocket. Raises EdgedError when it is refused, OSError when nobody is there."""
    from websockets.asyncio.client import connect, unix_connect
    from websockets.exceptions import InvalidHandshake, InvalidStatus

    options: dict[str, Any] = {"additional_headers": address.headers, "proxy": None}
    try:
        if address.unix:
            connecting: Any = unix_connect(str(address.unix), url, **options)
        else:
            connecting = connect(url, **options)
        async with connecting as connection:
            yield connection
    except InvalidStatus as error:
        raise refusal(error.response.status_code, bytes(error.response.body or b"")) from error
    except InvalidHandshake as error:
        raise ConnectionError(f"it does not speak WebSocket: {error}") from error
