"""What a segment of a recording consists of, one JSON object a line.

A segment is two files of one name. `.pcm` holds samples and nothing else; `.jsonl` says what they
are and what was made of them: first a `header`, then a line for everything that happened, in order.
Samples are written before the line that tells of them, so that whatever a crash leaves can be read.
"""

from __future__ import annotations

import msgspec

from edged.messages import (
    Close,
    EngineChanged,
    Final,
    Gap,
    Guessed,
    Introduced,
    Judged,
    Mark,
    Message,
    Mute,
    Partial,
    Passed,
    Playback,
    Said,
    SpeechStarted,
)

VERSION = 1


class Opened(Message, tag="opened", frozen=True):
    """A stream is recorded from here on."""

    name: str


class Sound(Message, tag="sound", frozen=True):
    """Samples that the engine was given."""

    start: int
    """Of the stream"""
    ends: list[int]
    """Of the blocks in which it learned of them"""
    at: int
    """Bytes into the .pcm"""
    encoding: str
    """s16le where that loses nothing, else f32le; mono at 16 kHz"""


class Dropped(Message, tag="dropped", frozen=True):
    """The disk did not take what came before: it was full, or too slow."""

    entries: int


What = (
    Opened
    | Introduced
    | Sound
    | Mark
    | Judged
    | Guessed
    | Said
    | Passed
    | Close
    | SpeechStarted
    | Partial
    | Final
    | Gap
    | Playback
    | EngineChanged
    | Mute
    | Dropped
)


class Line(msgspec.Struct, frozen=True):
    """One thing that happened."""

    clock: float
    """CLOCK_MONOTONIC at which it was noted, seconds"""
    stream: int
    """Number of the stream; 0 for what is of none"""
    sample: int
    """The audio clock: how far the stream was captured"""
    what: What


class Known(msgspec.Struct, frozen=True):
    """A stream that was open when a segment began."""

    stream: int
    name: str
    introduced: Introduced | None = None
    """How it was opened on a worker last, wherever that was"""


class Header(Message, tag="header", frozen=True):
    """The first line of a segment."""

    session: str
    """The same for all segments of one run of the daemon"""
    edged: str
    time: float
    """Unix time"""
    clock: float
    """CLOCK_MONOTONIC of that moment, seconds"""
    streams: list[Known]
    version: int = VERSION
    rate: int = 16000


encode = msgspec.json.Encoder().encode
decode_header = msgspec.json.Decoder(Header).decode
decode_line = msgspec.json.Decoder(Line).decode
