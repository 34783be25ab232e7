"""One event of Wyoming: a line of JSON, then more JSON, then bytes; of both as much as it says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec

from edged.errors import ClientError

HEADER_BYTES = 64 * 1024
"""Longest first line"""
DATA_BYTES = 1 << 20
"""Most JSON after it"""
FRAME_SECONDS = 10.0
"""Longest wait for the rest of an event that has begun"""


class NoWyomingError(Exception):
    """What came is no event at all: a browser that tries its luck, say."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An event, as its client sent it."""

    type: str
    data: dict[str, Any]
    payload: bytes = b""


async def read_frame(reader: asyncio.StreamReader, most: int) -> Frame | None:
    """The next event, with `most` bytes behind it; None at the end of the connection.

    Raises ClientError for one that is too large, late or damaged, and NoWyomingError.
    """
    first = await reader.read(1)
    if not first:
        return None
    if first != b"{":  # GET, POST: nothing that follows is looked at
        raise NoWyomingError
    try:
        async with asyncio.timeout(FRAME_SECONDS):
            return await _read_rest(reader, most)
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise ClientError(f"The first line is longer than {HEADER_BYTES} bytes") from error
    except TimeoutError as error:
        raise ClientError("The rest of an event did not come") from error


async def _read_rest(reader: asyncio.StreamReader, most: int) -> Frame:
    header = _object(b"{" + await reader.readuntil(b"\n"))
    kind, data = header.get("type"), header.get("data") or {}
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise ClientError('An event is {"type": NAME, "data": {}}')
    if length := _length(header, "data_length", DATA_BYTES):
        data = data | _object(await reader.readexactly(length))
    payload = await reader.readexactly(_length(header, "payload_length", most))
    return Frame(kind, data, payload)


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ClientError("An event's header and data are JSON objects") from error
    if not isinstance(value, dict):
        raise ClientError("An event's header and data are JSON objects")
    return value


def _length(header: dict[str, Any], name: str, most: int) -> int:
    length = header.get(name) or 0
    if not isinstance(length, int) or not 0 <= length <= most:
        raise ClientError(f"{name} is 0 to {most}")
    return length


def encode_frame(kind: str, data: dict[str, Any], payload: bytes = b"") -> bytes:
    """An event as bytes."""
    body = msgspec.json.encode(data) if data else b""
    header: dict[str, Any] = {"type": kind}
    if body:
        header["data_length"] = len(body)
    if payload:
        header["payload_length"] = len(payload)
    return msgspec.json.encode(header) + b"\n" + body + payload
