"""The ring on disk: segments of two files each, the oldest of which make room."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edged import paths
from edged.config import RecorderSection

LINES, SOUND = ".jsonl", ".pcm"
LARGEST_SEGMENT = 16 << 20
"""Bytes of both files"""
SEGMENTS = 8
"""So many fit at least, so that what is given up at once is a small part"""
LONGEST_SEGMENT = 300.0
"""Seconds"""
PRIVATE = 0o600


class Tape:
    """Writes to the newest segment. Everything raises OSError where the disk does not take it."""

    def __init__(
        self, folder: Path, most_bytes: int, most_seconds: float, header: Callable[[], bytes]
    ) -> None:
        """`header` is asked for the first line of each segment."""
        self._folder = folder
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds
        self._header = header
        self._segment_bytes = min(LARGEST_SEGMENT, most_bytes // SEGMENTS)
        self._files: tuple[int, int] | None = None
        """Descriptors of lines and sound"""
        self._began: dict[Path, float] = {}
        """CLOCK_MONOTONIC of our own segments: the wall clock may be set meanwhile"""
        self._size = 0
        self._at = 0

    @property
    def sound_bytes(self) -> int:
        """Where the next sound comes to lie in its file."""
        return self._at

    def room(self, size: int) -> None:
        """Make sure that so many bytes go into the segment; a new one may begin."""
        full = self._size + size > self._segment_bytes
        if self._files is None or full or time.monotonic() - self._since > LONGEST_SEGMENT:
            self._begin()

    def write(self, lines: bytes, sound: bytes) -> None:
        """Append, sound first: what a line tells of is there."""
        assert self._files is not None
        text, samples = self._files
        _write_all(samples, sound)
        _write_all(text, lines)
        self._at += len(sound)
        self._size += len(sound) + len(lines)

    def close(self) -> None:
        """End the segment; it stays readable as it is."""
        files, self._files = self._files, None
        for descriptor in files or ():
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def prune(self) -> None:
        """Delete the oldest segments until the rest, and a full new one, keep the bounds."""
        found = list(segments(self._folder))
        total = sum(map(size_of, found))
        for path in found:
            current = self._files is not None and path == self._path
            too_much = total > self._most_bytes - self._segment_bytes + self._size * current
            if current or not (too_much or self._age(path) > self._most_seconds):
                continue
            total -= size_of(path)
            _delete(path)
            self._began.pop(path, None)

    def _age(self, path: Path) -> float:
        if path in self._began:
            return time.monotonic() - self._began[path]
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime
        return 0.0

    def _begin(self) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.prune()
        self._path, text = self._create()
        try:
            self._files = text, _create(self._path.with_suffix(SOUND))
            self._size = self._at = 0
            self.write(self._header(), b"")
        except OSError:  # no empty ones while the disk is full
            self.close()
            _delete(self._path)
            raise
        self._since = self._began[self._path] = time.monotonic()

    def _create(self) -> tuple[Path, int]:
        """A file after the last one, whatever the wall clock says: boards forget the time."""
        last = max((number_of(path) for path in segments(self._folder)), default=0)
        while True:
            last += 1
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            path = self._folder / f"{last:08}-{stamp}{LINES}"
            with contextlib.suppress(FileExistsError):
                return path, _create(path)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, PRIVATE)


def _delete(path: Path) -> None:
    for part in (path, path.with_suffix(SOUND)):
        part.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def recordings(section: RecorderSection) -> Path:
    """The folder of the ring."""
    return section.path or paths.state_directory() / "recordings"


def segments(folder: Path) -> Iterator[Path]:
    """The .jsonl of each, oldest first."""
    yield from sorted(folder.glob(f"[0-9]*-*{LINES}"), key=number_of)


def written_since(section: RecorderSection, since: float) -> list[Path]:
    """The files that were written to since a Unix time."""
    found = []
    for path in segments(recordings(section)):
        with contextlib.suppress(OSError):  # it has made room meanwhile
            if path.stat().st_mtime >= since:
                found += [path, path.with_suffix(SOUND)]
    return found


def number_of(path: Path) -> int:
    head = path.name.partition("-")[0]
    return int(head) if head.isdigit() else 0


def size_of(path: Path) -> int:
    """Bytes of a segment."""
    total = 0
    for part in (path, path.with_suffix(SOUND)):
        with contextlib.suppress(OSError):
            total += part.stat().st_size
    return total
