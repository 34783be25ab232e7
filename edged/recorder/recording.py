"""Reads what was recorded: streams with their audio and all that was decided, across segments."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from edged.errors import RecordingError
from edged.messages import Close, Introduced, Mark, Passed, Said
from edged.recognizer import SAMPLE_RATE
from edged.recorder.lines import (
    VERSION,
    Header,
    Known,
    Line,
    Opened,
    Sound,
    decode_header,
    decode_line,
)
from edged.recorder.packing import BYTES, unpacked
from edged.recorder.tape import LINES, SOUND, segments


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where some samples of a stream lie."""

    start: int
    end: int
    path: Path
    at: int
    encoding: str


@dataclass(slots=True)
class Track:
    """One stream of one run of the daemon."""

    number: int
    name: str
    session: str
    introduced: Introduced | None = None
    """How it was opened before the first line"""
    lines: list[Line] = field(default_factory=list)
    """What a replay needs, in order: introduced, sound, mark, said, passed"""
    pieces: list[_Piece] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.pieces[-1].end if self.pieces else 0

    def holes(self) -> list[tuple[int, int]]:
        """What the engine heard and is not there: before the first segment, or dropped."""
        known = [(piece.start, piece.end) for piece in self.pieces]
        known += [(mark.start, mark.end) for mark in self.marks()]
        position, holes = 0, []
        for start, end in sorted(known):
            if start > position:
                holes.append((position, start))
            position = max(position, end)
        return holes

    def marks(self) -> Iterator[Mark]:
        for line in self.lines:
            if isinstance(line.what, Mark):
                yield line.what

    def gap_at(self, position: int) -> int | None:
        """Where audio goes on, if none was captured from here on."""
        index = bisect_right(self.pieces, position, key=lambda piece: piece.start)
        is_there = index > 0 and position < self.pieces[index - 1].end
        if is_there or index == len(self.pieces):
            return None
        return self.pieces[index].start

    def samples(self, start: int, end: int) -> np.ndarray:
        """That stretch; silence where nothing was captured. Raises RecordingError."""
        samples = np.zeros(end - start, np.float32)
        first = max(0, bisect_right(self.pieces, start, key=lambda piece: piece.start) - 1)
        for piece in self.pieces[first:]:
            if piece.start >= end:
                break
            begin, stop = max(start, piece.start), min(end, piece.end)
            if begin < stop:
                samples[begin - start : stop - start] = _read(piece, begin, stop)
        return samples


def _read(piece: _Piece, start: int, end: int) -> np.ndarray:
    size = BYTES[piece.encoding]
    try:
        with piece.path.open("rb") as file:
            file.seek(piece.at + (start - piece.start) * size)
            data = file.read((end - start) * size)
    except OSError as error:
        raise RecordingError(
            f"{piece.path} cannot be read: {error.strerror}", code="no_file"
        ) from error
    if len(data) < (end - start) * size:
        raise RecordingError(f"{piece.path} is shorter than what is said of it")
    return unpacked(data, piece.encoding)


@dataclass(slots=True)
class Recording:
    """A file, or all segments of a folder."""

    tracks: list[Track] = field(default_factory=list)
    began: float = 0.0
    """Unix time"""
    offsets: dict[str, float] = field(default_factory=dict)
    """By session, Unix time less CLOCK_MONOTONIC when it began"""

    def time_of(self, session: str, line: Line, sample: int) -> float:
        """Unix time of a sample of the stream that a line is about, as the clock stood when the
        recording began."""
        return line.clock - (line.sample - sample) / SAMPLE_RATE + self.offsets[session]

    def moment(self, text: str) -> float:
        """Unix time of what a user wrote: seconds from the beginning, or a time of day or date.

        Raises RecordingError.
        """
        try:
            return self.began + float(text)
        except ValueError:
            pass
        today = datetime.fromtimestamp(self.began).astimezone().date()
        for written in (text, f"{today}T{text}"):
            try:
                return datetime.fromisoformat(written).astimezone().timestamp()
            except ValueError:
                continue
        raise RecordingError(
            f"{text!r} is no time. Write seconds from the beginning, 14:05:30 or "
            "2026-01-31T14:05:30",
            code="bad_time",
        )


def read(path: Path) -> Recording:
    """A segment, or a folder of them. Raises RecordingError."""
    is_segment = path.suffix in {LINES, SOUND}
    files = [path.with_suffix(LINES)] if is_segment else segments(path)
    recording = Recording()
    tracks: dict[tuple[str, int], Track] = {}
    for file in files:
        _read_segment(file, recording, tracks)
    recording.tracks = [track for track in tracks.values() if track.pieces]
    if not recording.tracks:
        raise RecordingError(
            f"Nothing is recorded in {path}. Set recorder.enabled = true, restart edged and speak",
            code="no_recording",
        )
    return recording


def _read_segment(file: Path, recording: Recording, tracks: dict[tuple[str, int], Track]) -> None:
    try:
        first, *rest = file.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordingError(f"{file} cannot be read: {error.strerror}", code="no_file") from error
    try:
        header = decode_header(first)
    except msgspec.DecodeError as error:
        if first.startswith(b'{"type":"header"') or not first:
            return  # killed in its first moment
        raise RecordingError(f"{file} is no recording of edged's") from error
    if header.version != VERSION:
        raise RecordingError(
            f"{file} is of version {header.version}, this edged reads {VERSION}. Use the edged "
            f"that wrote it: {header.edged}",
        )
    _take_header(header, recording, tracks)
    for line in _whole(rest):
        _take_line(line, file.with_suffix(SOUND), header, tracks)


def _whole(lines: list[bytes]) -> Iterator[Line]:
    """All lines but what a crash has cut off."""
    for text in lines:
        try:
            yield decode_line(text)
        except msgspec.DecodeError:
            continue


def _take_header(
    header: Header, recording: Recording, tracks: dict[tuple[str, int], Track]
) -> None:
    recording.began = recording.began or header.time
    recording.offsets.setdefault(header.session, header.time - header.clock)
    for known in header.streams:
        _track(tracks, header, known)


def _track(tracks: dict[tuple[str, int], Track], header: Header, known: Known) -> Track:
    key = header.session, known.stream
    if key not in tracks:
        tracks[key] = Track(known.stream, known.name, header.session, known.introduced)
    return tracks[key]


def _take_line(
    line: Line, sound: Path, header: Header, tracks: dict[tuple[str, int], Track]
) -> None:
    if isinstance(line.what, Opened):
        _track(tracks, header, Known(line.stream, line.what.name))
        return
    track = tracks.get((header.session, line.stream))
    if track is None:
        return
    match line.what:
        case Sound():
            what = line.what
            track.pieces.append(_Piece(what.start, what.ends[-1], sound, what.at, what.encoding))
            track.lines.append(line)
        case Introduced() | Mark() | Said() | Passed() | Close():
            track.lines.append(line)
