from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edged import channel
from edged.messages import (
    Audio,
    Close,
    Command,
    Loading,
    Mark,
    Open,
    Ping,
    decode_command,
    decode_report,
    encode,
)


def run(
    scenario: Callable[[channel.AsyncChannel[Any], socket.socket], Coroutine[Any, Any, None]],
) -> None:
    """Run a scenario with the daemon's end and the child's raw socket."""

    async def main() -> None:
        ours, theirs = channel.channel_pair()
        with theirs:
            connection = channel.AsyncChannel(ours, decode_report, lambda _: None, lambda: None)
            await scenario(connection, theirs)
            connection.close()

    asyncio.run(main())


def fill(connection: channel.AsyncChannel[Any]) -> None:
    """Send until the socket takes no more, and some."""
    for number in range(2000):
        connection.send(Ping(number))


async def read_all(sock: socket.socket) -> list[Command]:
    """Everything that comes until nothing does for a while."""
    child = channel.Channel(sock, decode_command)
    messages: list[Command] = []
    while (received := await asyncio.to_thread(child.receive, 0.3)) is not None:
        message, fds = received
        messages.append(message)
        for fd in fds:
            os.close(fd)
    return messages


def test_a_stuck_child_gets_everything_in_order_when_it_reads_again() -> None:
    async def scenario(connection: channel.AsyncChannel[Any], sock: socket.socket) -> None:
        fill(connection)
        assert await read_all(sock) == [Ping(number) for number in range(2000)]

    run(scenario)


def test_a_newer_count_replaces_an_older_one_that_was_not_taken() -> None:
    async def scenario(connection: channel.AsyncChannel[Any], sock: socket.socket) -> None:
        fill(connection)
        for written in range(100):
            connection.send(Audio(1, written))
            connection.send(Audio(2, written))
        counts = [m for m in await read_all(sock) if isinstance(m, Audio)]
        assert counts == [Audio(1, 99), Audio(2, 99)]

    run(scenario)


def test_a_descriptor_that_was_closed_meanwhile_costs_nobody_a_message() -> None:
    async def scenario(connection: channel.AsyncChannel[Any], sock: socket.socket) -> None:
        fill(connection)
        fd = os.memfd_create("ring")
        connection.send(Open(1, 0, 0), [fd])
        os.close(fd)
        connection.send(Mark(2, 5, 5))
        messages = await read_all(sock)
        assert messages[-2:] == [Open(1, 0, 0), Mark(2, 5, 5)]

    run(scenario)


def test_a_child_that_is_gone_is_no_error() -> None:
    async def scenario(connection: channel.AsyncChannel[Any], sock: socket.socket) -> None:
        sock.close()
        connection.send(Close(1))
        await asyncio.sleep(0.05)
        connection.send(Close(2))

    run(scenario)


def test_the_child_learns_that_the_daemon_is_gone() -> None:
    ours, theirs = channel.channel_pair()
    with theirs:
        ours.close()
        with pytest.raises(EOFError):
            channel.Channel(theirs, decode_command).receive()


def test_the_last_words_of_a_child_that_left_ours_unread_are_heard() -> None:
    """The kernel tells of what was left unread before it hands out what was sent."""

    async def main() -> None:
        heard: list[Any] = []
        ours, theirs = channel.channel_pair()
        ended = asyncio.Event()
        connection = channel.AsyncChannel(ours, decode_report, heard.append, ended.set)
        connection.send(Ping(1))
        with theirs:
            theirs.send(encode(Loading("the last words")))
        async with asyncio.timeout(5):
            await ended.wait()
        assert heard == [Loading("the last words")]

    asyncio.run(main())
