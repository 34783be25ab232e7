"""The mute switch: a file or a command that says whether anybody may listen.

One that cannot be read mutes: it is there for privacy.
"""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

OPEN, SHUT = {"0", "off", "false", "inactive", "unmuted"}, {"1", "on", "true", "active", "muted"}
RETRY_SECONDS = 1.0
"""Between the end of a command and its next start"""
LONGEST = 100
"""Characters of a state; more is none"""


class Switch:
    """Two ways to switch the microphone off, beside edged's API; without either it is open."""

    def __init__(self, file: str | None, command: str | None) -> None:
        """`file` holds the state now, e.g. a GPIO's value; `command` writes a line whenever the
        state changes, and does not end."""
        self._file = Path(file) if file else None
        self._command = command
        self._line = ""
        self._trouble = f"the mute command {command} has said nothing yet"
        if command:
            threading.Thread(target=self._run, args=(command,), daemon=True).start()

    def read(self) -> tuple[bool, str | None]:
        """Whether it mutes, and why it cannot be read, if so."""
        muted, problem = self._of_file() if self._file else (False, None)
        if self._command and not muted:
            muted, problem = _state(self._line, self._trouble)
        return muted, problem

    def _of_file(self) -> tuple[bool, str | None]:
        assert self._file
        try:
            with self._file.open("rb") as file:
                text = file.read(LONGEST + 1).decode("utf-8", "replace")
        except OSError as error:
            return True, f"the mute switch {self._file} cannot be read: {error.strerror}"
        return _state(text, f"the mute switch {self._file} holds {text[:20]!r}, neither 0 nor 1")

    def _run(self, command: str) -> None:
        while True:
            code = self._follow(command)
            self._trouble = f"the mute command has left with exit code {code}"
            self._line = ""
            time.sleep(RETRY_SECONDS)

    def _follow(self, command: str) -> int:
        """Take its lines until it ends; its exit code."""
        with subprocess.Popen(  # noqa: S602  the configuration's own
            command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            while line := process.stdout.readline(LONGEST):
                self._trouble = f"the mute command says {line.strip()[:20]!r}, neither 0 nor 1"
                self._line = line
        return process.returncode


def _state(text: str, trouble: str) -> tuple[bool, str | None]:
    """0 or 1, or what gpioget and its like write for that: "17"=active."""
    word = text.strip().rpartition("=")[2].lower()
    if word in OPEN:
        return False, None
    return True, None if word in SHUT else trouble
