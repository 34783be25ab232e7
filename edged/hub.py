"""Hands each event of the microphone to everybody who listens, and waits for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from edged.messages import Event, Final, encode


class Subscriber:
    """One listener's bounded queue of events."""

    def __init__(self, size: int, words: bool) -> None:
        self.words = words
        """Whether it wants the words of finals"""
        self._queue: asyncio.Queue[tuple[Event, bytes]] = asyncio.Queue(size)
        self._overflow = asyncio.Event()

    @property
    def too_slow(self) -> bool:
        """Whether it fell behind by a whole queue and is to be let go."""
        return self._overflow.is_set()

    def put(self, event: Event, encoded: bytes) -> None:
        try:
            self._queue.put_nowait((event, encoded))
        except asyncio.QueueFull:
            self._overflow.set()

    @property
    def depth(self) -> int:
        """Events that wait for it."""
        return self._queue.qsize()

    async def get(self) -> tuple[Event, bytes]:
        """The next event and its JSON."""
        return await self._queue.get()

    async def overflow(self) -> None:
        """Wait until it has fallen too far behind."""
        await self._overflow.wait()


class Hub:
    """Publishes to all subscribers; each event is encoded once for all of a kind."""

    def __init__(self, queue_size: Callable[[], int]) -> None:
        self._subscribers: set[Subscriber] = set()
        self._queue_size = queue_size

    def __len__(self) -> int:
        return len(self._subscribers)

    @property
    def depth(self) -> int:
        """Events that the listener who is furthest behind is behind."""
        return max((subscriber.depth for subscriber in self._subscribers), default=0)

    def subscribe(self, *, words: bool = False) -> Subscriber:
        subscriber = Subscriber(self._queue_size(), words)
        self._subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        self._subscribers.discard(subscriber)

    def publish(self, event: Event) -> None:
        if not self._subscribers:
            return
        full = encode(event)
        brief = full
        if isinstance(event, Final) and event.words is not None:
            brief = encode(msgspec.structs.replace(event, words=None))
        for subscriber in list(self._subscribers):
            subscriber.put(event, full if subscriber.words else brief)
            if subscriber.too_slow:
                self._subscribers.discard(subscriber)
