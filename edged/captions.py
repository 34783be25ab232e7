"""Live captions in a terminal: partials rewritten in place, finals with their latency."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

from edged.messages import (
    Closed,
    EngineChanged,
    Error,
    Event,
    Final,
    Gap,
    Hello,
    MicrophoneChanged,
    Partial,
)

_DIM, _BOLD, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"
_CLEAR_LINE = "\r\x1b[K"


class Captions:
    """Writes events to a terminal, or plainly to a file or pipe."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._live = out.isatty()

    def show(self, event: Event) -> None:
        match event:
            case Hello():
                rung = event.engine.effective
                self._note(str(rung) if rung else "the engine is loading")
            case Partial():
                self._partial(event)
            case Final() if event.text:
                self._final(event)
            case Final():
                self._write("")
            case Gap():
                seconds = event.end - event.start
                self._note(f"{seconds:.1f} s were not heard: {event.reason}")
            case MicrophoneChanged():
                reason = event.reason or event.label or ""
                self._note(f"microphone {event.state}: {reason}".rstrip(": "))
            case EngineChanged():
                self._note(f"engine: {event.to or 'none'} {event.reason}".rstrip())
            case Error():
                self._note(f"{event.code}: {event.message}")
            case Closed() if event.reason != "done":
                self._note(f"closed: {event.reason}")

    def _partial(self, event: Partial) -> None:
        if not self._live:
            return
        width = shutil.get_terminal_size().columns - 2
        hidden = max(0, len(event.text) - width)
        stable = event.stable[hidden:]
        unstable = event.text[max(len(event.stable), hidden) :]
        self._write(f"{stable}{_DIM}{unstable}{_PLAIN}")

    def _final(self, event: Final) -> None:
        latency = event.latency
        times = f"{latency.total:.2f} s after the last word"
        if self._live:
            self._write(f"{_BOLD}{event.text}{_PLAIN}  {_DIM}{times}{_PLAIN}\n")
        else:
            self._write(f"{event.text}  ({times})\n")

    def _note(self, text: str) -> None:
        self._write(f"{_DIM}{text}{_PLAIN}\n" if self._live else f"[{text}]\n")

    def _write(self, text: str) -> None:
        self._out.write(_CLEAR_LINE + text if self._live else text)
        self._out.flush()
