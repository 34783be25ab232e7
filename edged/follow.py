"""Follow a running daemon's microphone over its WebSocket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edged import paths
from edged.errors import EdgedError
from edged.messages import Closed, Event, decode_event

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds between tries to connect"""
PATH = "/v1/transcripts"


def default_socket() -> Path:
    """The Unix socket of this user's daemon, else of the machine's."""
    own = paths.runtime_directory() / "edged.sock"
    service = Path("/run/edged/edged.sock")
    return own if own.exists() or not service.exists() else service


def follow(url: str | None, token: str | None, patience: float = float("inf")) -> Iterator[Event]:
    """Events as they come, for ever; connects again when the connection breaks.

    Ends when the daemon says that its source has ended. Raises EdgedError when nothing answers for
    `patience` seconds.
    """
    from websockets.exceptions import ConnectionClosed, InvalidHandshake

    wait, since = FIRST_WAIT, time.monotonic()
    while True:
        try:
            with _connect(url, token) as connection:
                wait, since = FIRST_WAIT, time.monotonic()
                for data in connection:
                    event = decode_event(data.encode())
                    yield event
                    if isinstance(event, Closed) and event.reason == "source_ended":
                        return
        except (OSError, ConnectionClosed, InvalidHandshake) as error:
            if time.monotonic() - since > patience:
                where = url or default_socket()
                raise EdgedError(
                    f"No daemon answers at {where} ({error}). Start one: edged run",
                    code="no_daemon",
                ) from error
        time.sleep(wait)
        wait = min(wait * 2, LONGEST_WAIT)


def _connect(url: str | None, token: str | None) -> Any:
    from websockets.exceptions import InvalidStatus, InvalidURI
    from websockets.sync.client import connect, unix_connect

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        if url is None:
            return unix_connect(
                str(default_socket()), f"ws://localhost{PATH}", additional_headers=headers
            )
        address = url.replace("http", "ws", 1).rstrip("/")
        return connect(f"{address}{PATH}", additional_headers=headers)
    except InvalidStatus as error:
        body = (error.response.body or b"").decode("utf-8", "replace")
        raise EdgedError(
            f"The daemon refuses ({error.response.status_code}): {body}", code="refused"
        ) from error
    except (InvalidURI, ValueError) as error:
        raise EdgedError(f"{url} is no address; use http://HOST:PORT", code="bad_url") from error
