"""Hands every event to every transcript sink, each in a thread of its own, and waits for none."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from edged.errors import EdgedError
from edged.log import fields, get_logger
from edged.messages import Event
from edged.sink import TranscriptSink

log = get_logger(__name__)

QUEUE = 256
"""Events that a sink may be behind"""
STOP_SECONDS = 2.0
"""Longest wait for all sinks when edged stops"""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds between tries to open a sink"""

Entry = tuple[str, Event]
"""A stream's name and one of its events"""


class _Feeder:
    """One sink with its queue and its thread."""

    def __init__(
        self,
        kind: type[TranscriptSink],
        settings: Mapping[str, Any],
        mute: Callable[[bool], None],
    ) -> None:
        self.name = kind.name
        self.dropped = 0
        self.failures = 0
        self._kind = kind
        self._settings = settings
        self._mute = mute
        self._queue: queue.Queue[Entry | None] = queue.Queue(QUEUE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink {self.name}", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Events that wait for it."""
        return self._queue.qsize()

    def put(self, entry: Entry) -> None:
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self.dropped += 1
            if _is_worth_a_line(self.dropped):
                log.warning(
                    "sink %s is too slow: %d events dropped",
                    self.name,
                    self.dropped,
                    extra=fields("sink_slow", sink=self.name, count=self.dropped),
                )

    def stop(self) -> None:
        self._stopping.set()
        with contextlib.suppress(queue.Full):  # then it does not wait for anything
            self._queue.put_nowait(None)

    def join(self, deadline: float) -> None:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            left = fields("sink_left", sink=self.name)
            log.warning("sink %s did not stop and is left behind", self.name, extra=left)

    def _run(self) -> None:
        sink = self._open()
        if sink is None:
            return
        if self._settings.get("allow_commands") is True:
            self._try(sink.may_mute, self._mute)
        while entry := self._next():
            stream, event = entry
            self._try(sink.take, stream, msgspec.to_builtins(event))
        self._try(sink.close)

    def _next(self) -> Entry | None:
        """What to hand over next; None when edged stops and all is handed over."""
        if self._stopping.is_set() and self._queue.empty():
            return None
        return self._queue.get()

    def _open(self) -> TranscriptSink | None:
        """The sink, once it can be opened; None when edged stops before."""
        wait = FIRST_WAIT
        while not self._stopping.is_set():
            sink: TranscriptSink | None = self._try(self._kind, self._settings)
            if sink is not None:
                return sink
            self._stopping.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        return None

    def _try(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's code
            self.failures += 1
            if _is_worth_a_line(self.failures):
                known = isinstance(error, EdgedError)
                reason = str(error) if known else repr(error)
                log.warning(
                    "sink %s failed %d times: %s",
                    self.name,
                    self.failures,
                    reason,
                    extra=fields("sink_failed", sink=self.name, count=self.failures),
                )
            return None


def _is_worth_a_line(count: int) -> bool:
    """The first, the second, the fourth, the eighth ..."""
    return count & (count - 1) == 0


class Sinks:
    """All of them."""

    def __init__(
        self,
        kinds: Sequence[type[TranscriptSink]],
        settings: Mapping[str, Mapping[str, Any]],
        mute: Callable[[bool], None] = lambda _muted: None,
    ) -> None:
        """`settings` by name of the sink; `mute` may be called from any thread."""
        self.all = [
            _Feeder(kind, settings.get(kind.name, {}), mute)
            for kind in kinds
            if kind.name in settings or not kind.needs_settings
        ]

    def put(self, stream: str, event: Event) -> None:
        """Tell every sink what was published; returns at once."""
        for feeder in self.all:
            feeder.put((stream, event))

    def stop(self) -> None:
        """Let them work off what they have, for a moment."""
        deadline = time.monotonic() + STOP_SECONDS
        for feeder in self.all:
            feeder.stop()
        for feeder in self.all:
            feeder.join(deadline)
