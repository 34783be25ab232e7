"""What a child process writes to stderr, line by line."""

from __future__ import annotations

from asyncio import StreamReader
from collections.abc import Callable

LONGEST_LINE = 16384
"""Bytes; of a longer one the end is kept"""


async def follow(reader: StreamReader, take: Callable[[str], None]) -> None:
    """Hand every line over, without its end, until there are no more."""
    rest = b""
    while data := await reader.read(4096):
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[-LONGEST_LINE:]
        for line in lines:
            take(_text(line))
    if rest:
        take(_text(rest))


def _text(line: bytes) -> str:
    return line[-LONGEST_LINE:].rstrip(b"\r").decode("utf-8", "replace")
