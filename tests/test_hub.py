"""The hub hands every event to everybody and waits for nobody."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from edged.api.app import create_app
from edged.api.server import HttpServer
from edged.config import ServerSection
from edged.hub import Hub, Subscriber
from edged.messages import (
    EngineState,
    EventWord,
    Final,
    Hello,
    Latency,
    Partial,
    SpeechStarted,
)
from edged.plugins import Plugins


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 30))


def started(number: int) -> SpeechStarted:
    return SpeechStarted(number, 0.0)


async def received(subscriber: Subscriber, count: int) -> list[dict[str, Any]]:
    return [json.loads((await subscriber.get())[1]) for _ in range(count)]


def test_everybody_gets_every_event_in_order() -> None:
    async def main() -> None:
        hub = Hub(lambda: 8)
        subscribers = [hub.subscribe() for _ in range(3)]
        for number in range(5):
            hub.publish(started(number))
        for subscriber in subscribers:
            events = await received(subscriber, 5)
            assert [event["utterance"] for event in events] == [0, 1, 2, 3, 4]

    run(main())


def test_words_are_for_those_who_want_them() -> None:
    async def main() -> None:
        hub = Hub(lambda: 8)
        brief, full = hub.subscribe(), hub.subscribe(words=True)
        words = [EventWord("best", 0.0, 0.5, 0.9)]
        latency = Latency(endpoint=0.3, decode=0.1, total=0.4)
        engine = EngineState(None, None)
        hub.publish(Final(1, "best", 0, 1, 0.9, engine, latency, 5.0, id=3, words=words))
        [without] = await received(brief, 1)
        [with_words] = await received(full, 1)
        assert with_words.pop("words") == [
            {"word": "best", "start": 0.0, "end": 0.5, "confidence": 0.9}
        ]
        assert with_words == without

    run(main())


def test_one_who_falls_behind_is_let_go_and_the_others_stay() -> None:
    async def main() -> None:
        hub = Hub(lambda: 4)
        slow, quick = hub.subscribe(), hub.subscribe()
        for number in range(10):
            hub.publish(started(number))
            await quick.get()
        await slow.overflow()
        assert slow.too_slow
        assert not quick.too_slow
        assert len(hub) == 1
        assert len(await received(slow, 4)) == 4, "what it had is still whole"

    run(main())


def test_who_has_left_gets_nothing() -> None:
    async def main() -> None:
        hub = Hub(lambda: 4)
        subscriber = hub.subscribe()
        hub.unsubscribe(subscriber)
        hub.unsubscribe(subscriber)
        for number in range(10):
            hub.publish(started(number))
        assert not subscriber.too_slow
        assert len(hub) == 0

    run(main())


def test_a_new_subscriber_has_the_size_that_is_configured_then() -> None:
    async def main() -> None:
        size = 2
        hub = Hub(lambda: size)
        small = hub.subscribe()
        size = 20
        large = hub.subscribe()
        for number in range(10):
            hub.publish(started(number))
        assert small.too_slow
        assert not large.too_slow

    run(main())


# -- a reader that does not read, on a real socket ------------------------------------------------


class Served:
    """The real application and server over a hub, in a thread."""

    def __init__(self) -> None:
        section = ServerSection(port=0, unix_socket="", client_queue=8)
        self.hub = Hub(lambda: section.client_queue)
        self.daemon: Any = SimpleNamespace(
            configuration=SimpleNamespace(server=section),
            token=None,
            hub=self.hub,
            plugins=Plugins([]),
            clients=0,
            hello=lambda stream: Hello(stream, None, EngineState(None, None), 16000, False),
        )
        self.server = HttpServer(section, create_app(self.daemon))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.started(), self._loop).result(30)

    async def _run(self) -> None:
        await self.server.serve()

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call in the server's loop."""

        async def run() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def stop(self) -> None:
        self.call(self.server.stop)
        self._thread.join(30)
        self._loop.close()


@pytest.fixture
def served() -> Any:
    served = Served()
    yield served
    served.stop()


LONG = Partial(1, "word " * 20_000, "", 0.0, 1.0, 0.1)


def test_a_client_that_does_not_read_is_let_go_and_others_are_not(served: Served) -> None:
    url = f"ws://127.0.0.1:{served.server.port}/v1/transcripts"
    with socket.create_connection(("127.0.0.1", served.server.port)) as lazy:
        lazy.sendall(
            b"GET /v1/transcripts HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert lazy.recv(12) == b"HTTP/1.1 101"
        with connect(url, max_size=None) as reader:
            assert json.loads(reader.recv())["type"] == "hello"
            while len(served.hub) == 2:
                served.call(served.hub.publish, LONG)
                assert json.loads(reader.recv(timeout=30))["type"] == "partial"
            served.call(served.hub.publish, started(7))
            assert json.loads(reader.recv(timeout=30))["utterance"] == 7
            while served.daemon.clients == 2:  # it has a moment to take the close frame
                time.sleep(0.02)
            assert len(served.hub) == served.daemon.clients == 1


def test_a_client_that_reads_too_late_is_told_why(served: Served) -> None:
    url = f"ws://127.0.0.1:{served.server.port}/v1/transcripts"

    def burst() -> None:
        for number in range(20):
            served.hub.publish(started(number))

    with connect(url) as client:
        assert json.loads(client.recv())["type"] == "hello"
        served.call(burst)
        with pytest.raises(ConnectionClosed):
            while True:
                client.recv(timeout=30)
        assert client.close_code == 4000
    assert served.call(len, served.hub) == 0
