"""What a follower of the microphone has seen, and when it tries again: the same for both clients.

Finals have numbers that grow and are never used twice. After a break those since the last one seen
come from the store first; what then comes again over the WebSocket is recognised by its number.
"""

from __future__ import annotations

import time

import msgspec

from edged.client.requests import Address, no_daemon
from edged.errors import EdgedError
from edged.log import get_logger
from edged.messages import Closed, Error, Event, Final, Hello, decode_event

log = get_logger(__name__)

PATH = "/v1/transcripts"
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds between tries to connect"""
QUIET_SECONDS = 5.0
"""A daemon that starts is not worth a line"""
PASSING = {"too_many_clients", "engine_not_ready"}
"""Codes of what is over by itself"""


class Following:
    """Sans-I/O: is told what comes, says what of it is new and what to do next."""

    def __init__(self, address: Address, patience: float, after: int | None) -> None:
        self._address = address
        self._patience = patience
        self.last = after
        """Number of the last final that was seen, or that there was before"""
        self.over = False
        """Whether the microphone's source has ended, and with it everything"""
        self._wait = FIRST_WAIT
        self._alone_since = time.monotonic()
        self._connected = False
        self._complained = False

    def greeted(self, hello: Hello) -> int | None:
        """Connected: the number from which finals are to be asked for, if any may be missing."""
        self._wait, self._complained, self._connected = FIRST_WAIT, False, True
        missed, self.last = self.last, hello.last if self.last is None else self.last
        if missed is None or hello.last is None or hello.last <= missed:
            return None
        return missed

    def caught_up(self, number: int) -> None:
        """A final came from the store."""
        self.last = number

    def is_new(self, event: Event) -> bool:
        """Whether to hand an event on. Raises EdgedError for one that ends everything."""
        if isinstance(event, Error) and event.fatal and event.code not in PASSING:
            raise EdgedError(event.message, code=event.code)
        if isinstance(event, Closed):
            self.over = event.reason == "source_ended"
        if not isinstance(event, Final) or event.id is None:
            return True
        if self.last is not None and event.id <= self.last:
            return False
        self.last = event.id
        return True

    def broken(self, error: Exception | None) -> float:
        """The connection ended: seconds to wait before the next. Raises EdgedError when there was
        none for too long."""
        if self._connected:
            self._alone_since, self._connected = time.monotonic(), False
        alone = time.monotonic() - self._alone_since
        if alone > self._patience:
            raise no_daemon(self._address, error or ConnectionError("it is gone")) from error
        if not self._complained and error is not None and alone > QUIET_SECONDS:
            log.warning("no daemon answers at %s (%s); trying again", self._address, error)
            self._complained = True
        wait = self._wait
        self._wait = min(wait * 2, LONGEST_WAIT)
        return wait


def read_event(data: str | bytes) -> Event | None:
    """An event; None for one that is newer than this client."""
    try:
        event: Event = decode_event(data)
    except msgspec.ValidationError:
        return None
    return event
