"""Notes what passes, and has a thread of its own write it: no disk makes anybody wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from edged import __version__
from edged.engine.stream import Stream
from edged.engine.witness import Witness
from edged.log import fields, get_logger
from edged.messages import Close, Introduced, Message
from edged.recorder.lines import (
    Dropped,
    Header,
    Known,
    Line,
    Opened,
    Sound,
    What,
    encode,
)
from edged.recorder.packing import F32, packed
from edged.recorder.tape import Tape

log = get_logger(__name__)

FLUSH_SECONDS = 0.5
"""What a crash loses at the most"""
RETRY_SECONDS = 2.0
PRUNE_SECONDS = 60.0
MOST_WAITING = 16 << 20
"""Bytes kept while the disk is slow"""
LINE_BYTES = 200
"""What an entry without samples is taken for"""
WRITTEN_AT_ONCE = 256 << 10
"""Bytes"""


class _Entry(NamedTuple):
    """What is to be written."""

    line: Line
    samples: bytes = b""
    """float32, of a sound"""

    @property
    def sound(self) -> Sound | None:
        return self.line.what if isinstance(self.line.what, Sound) else None

    @property
    def size(self) -> int:
        """Bytes, about."""
        return LINE_BYTES + len(self.samples)


class Recorder(Witness):
    """One run of the daemon, written to a folder."""

    def __init__(self, folder: Path, most_bytes: int, most_seconds: float) -> None:
        self.folder = folder
        self.problem: str | None = None
        """Why nothing is being written, while that is so"""
        self.dropped = 0
        """Entries that the disk did not take"""
        self._session = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._known: dict[int, Known] = {}
        self._heard: dict[int, int] = {}
        """By stream, how far it was noted"""
        self._waiting: list[_Entry] = []
        self._waiting_bytes = 0
        self._pruned = 0.0
        self._lost = 0
        """Entries dropped since the last that was written"""
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._tape = Tape(folder, most_bytes, most_seconds, self._header)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Write what waits, if the disk takes it in time."""
        self._closing.set()
        self._thread.join(2.0)

    # -- in the daemon's loop -------------------------------------------------------------------

    def heard(self, stream: Stream, start: int, end: int) -> None:
        first = max(start, self._noted(stream), end - stream.ring.capacity)
        if first >= end:
            return
        self._heard[stream.number] = end
        block = stream.ring.view(first, end).tobytes()
        self._put(_entry(stream, Sound(first, [end], 0, F32), block))

    def _noted(self, stream: Stream) -> int:
        """How far a stream was noted; one that was not yet seen is opened."""
        if stream.number not in self._heard:
            self._heard[stream.number] = 0
            self._put(_entry(stream, Opened(stream.name)))
        return self._heard[stream.number]

    def missed(self, stream: Stream, end: int) -> None:
        self._heard[stream.number] = max(self._noted(stream), end)

    def told(self, stream: Stream, message: Message) -> None:
        self._noted(stream)
        self._put(_entry(stream, message))
        if isinstance(message, Close):
            self._heard.pop(stream.number, None)

    def note(self, message: Message, stream: Stream | None) -> None:
        """Something that happened while a stream stood where it does."""
        self._put(_entry(stream, message))

    def _put(self, entry: _Entry) -> None:
        with self._lock:
            if self._waiting_bytes + entry.size > MOST_WAITING:
                self._lost += 1
                return
            self._waiting.append(entry)
            self._waiting_bytes += entry.size

    # -- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        retry = 0.0
        while not self._closing.wait(FLUSH_SECONDS):
            now = time.monotonic()
            if now < retry:
                self._give_up(self._take())
            elif not self._write(self._take()):
                retry = now + RETRY_SECONDS
        self._write(self._take())
        self._tape.close()

    def _take(self) -> list[_Entry]:
        with self._lock:
            taken, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return taken

    def _give_up(self, entries: Sequence[_Entry]) -> None:
        self._follow(entries)
        self._lost += len(entries)

    def _write(self, entries: list[_Entry]) -> bool:
        """Whether the disk took it."""
        try:
            if self._lost and entries:
                self._append([_entry(None, Dropped(self._lost))])
                self.dropped, self._lost = self.dropped + self._lost, 0
            for some in _portions(_joined(entries)):
                self._append(some)
            self._prune()
        except OSError as error:
            self._give_up(entries)
            self._tape.close()
            reason = f"{self.folder} takes nothing: {error.strerror}"
            if self.problem is None:
                failed = fields("recorder_failed", path=self.folder)
                log.error("nothing is recorded for the time being: %s", reason, extra=failed)
            self.problem = reason
            return False
        if self.problem and entries:
            log.info("it is recorded again", extra=fields("recorder_written"))
            self.problem = None
        return True

    def _append(self, entries: Sequence[_Entry]) -> None:
        self._tape.room(sum(entry.size for entry in entries))
        samples, lines = bytearray(), bytearray()
        for entry in entries:
            line = entry.line
            if entry.sound:
                data, encoding = packed(entry.samples)
                at = self._tape.sound_bytes + len(samples)
                line = replace(line, what=replace(entry.sound, at=at, encoding=encoding))
                samples += data
            lines += encode(line) + b"\n"
        self._tape.write(bytes(lines), bytes(samples))
        self._follow(entries)

    def _prune(self) -> None:
        now = time.monotonic()
        if now - self._pruned > PRUNE_SECONDS:
            self._pruned = now
            self._tape.prune()

    def _follow(self, entries: Sequence[_Entry]) -> None:
        """Know the streams, for the headers of the segments to come."""
        for line, _ in entries:
            match line:
                case Line(stream=number, what=Opened(name=name)):
                    self._known[number] = Known(number, name)
                case Line(stream=number, what=Introduced() as introduced):
                    before = self._known.get(number, Known(number, ""))
                    self._known[number] = replace(before, introduced=introduced)
                case Line(stream=number, what=Close()):
                    self._known.pop(number, None)

    def _header(self) -> bytes:
        known = list(self._known.values())
        header = Header(self._session, __version__, time.time(), time.monotonic(), known)
        return encode(header) + b"\n"


def _entry(stream: Stream | None, message: Message, samples: bytes = b"") -> _Entry:
    number, sample = (stream.number, stream.written) if stream else (0, 0)
    what: What = message  # type: ignore[assignment]
    return _Entry(Line(round(time.monotonic(), 4), number, sample, what), samples)


def _joined(entries: Sequence[_Entry]) -> Iterator[_Entry]:
    """Blocks that follow each other, with nothing noted in between, in one entry."""
    held: _Entry | None = None
    for entry in entries:
        if held and _follows(held, entry):
            held = _together(held, entry)
            continue
        if held:
            yield held
        held = entry
    if held:
        yield held


def _follows(one: _Entry, other: _Entry) -> bool:
    if not (one.sound and other.sound):
        return False
    return one.line.stream == other.line.stream and one.sound.ends[-1] == other.sound.start


def _together(one: _Entry, other: _Entry) -> _Entry:
    assert one.sound
    assert other.sound
    sound = replace(one.sound, ends=[*one.sound.ends, *other.sound.ends])
    return _Entry(replace(other.line, what=sound), one.samples + other.samples)


def _portions(entries: Iterator[_Entry]) -> Iterator[list[_Entry]]:
    some: list[_Entry] = []
    for entry in entries:
        some.append(entry)
        if sum(waiting.size for waiting in some) >= WRITTEN_AT_ONCE:
            yield some
            some = []
    if some:
        yield some
