"""The client that blocks."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edged.client import following
from edged.client.following import Following, read_event
from edged.client.requests import Address, Transcription, no_daemon, refusal
from edged.errors import EdgedError
from edged.messages import Closed, Error, Event, Hello

STREAM = "/v1/stream"
CLOSE = '{"type":"close"}'


class Client:
    """Of the daemon at `url`: `http://HOST:PORT`, `unix:PATH`, else this machine's Unix socket.

    Holds no connection between calls, and may be used by several threads.
    """

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        """Raises EdgedError when `url` is no address."""
        self._address = Address(url, token)

    def listen(
        self,
        *,
        partials: bool = True,
        words: bool = False,
        after: int | None = None,
        patience: float = float("inf"),
    ) -> Iterator[Event]:
        """What the microphone hears, as it comes, until its source ends.

        Connects again when the connection breaks or the daemon is started anew; no final is lost or
        comes twice by that. `after`, the number of a final, begins with those since. Raises
        EdgedError when it is refused, or nobody answers for `patience` seconds.
        """
        seen = Following(self._address, patience, after)
        path = self._address.websocket(following.PATH, partials=partials, words=words)
        while not seen.over:
            error: Exception | None = None
            try:
                with _connect(self._address, path) as connection:
                    yield from self._follow(connection, seen, words)
            except (OSError, _closed()) as broken:
                error = broken
            if not seen.over:
                time.sleep(seen.broken(error))

    def _follow(self, connection: Any, seen: Following, words: bool) -> Iterator[Event]:
        """Over one connection, until it ends; what was missed comes after the hello."""
        for data in connection:
            event = read_event(data)
            if event is not None and seen.is_new(event):
                yield event
            if isinstance(event, Hello) and (missed := seen.greeted(event)) is not None:
                for number, final in self._address.finals(missed):
                    seen.caught_up(number)
                    yield final if words else without_words(final)

    def stream(
        self,
        audio: Iterable[bytes],
        *,
        rate: int = 16000,
        encoding: str = "s16le",
        channels: int = 1,
        partials: bool = True,
        words: bool = False,
    ) -> Iterator[Event]:
        """Send audio, and get what is said in it, until `closed`. What `audio` raises is raised
        here. Raises EdgedError when it is refused or the connection breaks."""
        path = self._address.websocket(
            STREAM,
            rate=rate,
            encoding=encoding,
            channels=channels,
            partials=partials,
            words=words,
        )
        try:
            with _connect(self._address, path) as connection:
                sender = _Sender(connection, audio)
                for data in connection:
                    event = read_event(data)
                    if event is None:
                        continue
                    raise_if_fatal(event)
                    yield event
                    if isinstance(event, Closed):
                        return
                sender.raise_error()
        except (OSError, _closed()) as error:
            raise no_daemon(self._address, error) from error
        raise broken_off()

    def transcribe(self, path: str | Path, *, words: bool = False) -> Transcription:
        """Have a sound file recognised. Raises EdgedError."""
        return self._address.transcribe(Path(path), words)

    def mute(self, muted: bool = True) -> None:
        """Mute the microphone, or end that. Raises EdgedError."""
        with _reachable(self._address):
            self._address.mute(muted)

    def health(self) -> dict[str, Any]:
        """What `GET /v1/health` says. Raises EdgedError."""
        with _reachable(self._address):
            health: dict[str, Any] = self._address.get("/v1/health")
            return health


class _Sender:
    """Sends audio from a thread of its own, so that events are read meanwhile."""

    def __init__(self, connection: Any, audio: Iterable[bytes]) -> None:
        self._connection = connection
        self._audio = audio
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="edged sender", daemon=True).start()

    def _run(self) -> None:
        try:
            for block in self._audio:
                self._connection.send(bytes(block))
            self._connection.send(CLOSE)
        except (OSError, _closed()):
            pass  # whoever reads learns of it
        except BaseException as error:  # noqa: BLE001  raised where the events are read
            self._error = error
            self._connection.close()

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def without_words(final: Any) -> Any:
    from msgspec.structs import replace

    return replace(final, words=None)


def raise_if_fatal(event: Event) -> None:
    if isinstance(event, Error) and event.fatal:
        raise EdgedError(event.message, code=event.code)


def broken_off() -> EdgedError:
    return EdgedError("The connection ended before everything was heard", code="connection_lost")


@contextlib.contextmanager
def _reachable(address: Address) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise no_daemon(address, error) from error


def _closed() -> type[Exception]:
    from websockets.exceptions import ConnectionClosed

    return ConnectionClosed


def _connect(address: Address, url: str) -> Any:
    """A WebSocket. Raises EdgedError when it is refused, OSError when nobody is there."""
    from websockets.exceptions import InvalidHandshake, InvalidStatus
    from websockets.sync.client import connect, unix_connect

    options: dict[str, Any] = {"additional_headers": address.headers, "proxy": None}
    try:
        if address.unix:
            return unix_connect(str(address.unix), url, **options)
        return connect(url, **options)
    except InvalidStatus as error:
        raise refusal(error.response.status_code, bytes(error.response.body or b"")) from error
    except InvalidHandshake as error:
        raise ConnectionError(f"it does not speak WebSocket: {error}") from error
