"""Runs the checks in a process that may be lost: one that crashes or blocks has failed.

python -m edged.testing.apart --wish JSON --skip N        results as JSON lines on stdout
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import IO

import msgspec

from edged.elsewhere import interpreter
from edged.engine.launch import worker_environment
from edged.engine.process import Stillness, signal_name
from edged.errors import EdgedError
from edged.parent import answer_only
from edged.testing.check import Result
from edged.testing.plan import Step, Wish, steps

DEADLINE_SECONDS = 300.0
"""Longest check: some devices compile for minutes"""
STALL_SECONDS = 20.0
"""Longest time in which a check takes no time of the processor"""
ASKED = "can_be_asked"
SENTENCE = "It can be asked what it supplies, and for which devices"


class _Begun(msgspec.Struct, tag="begun", frozen=True):
    """A check begins; what comes of it, if the process is lost."""

    result: Result


class _Done(msgspec.Struct, tag="done", frozen=True):
    """What came of it."""

    result: Result


class _Over(msgspec.Struct, tag="over", frozen=True):
    """There are no more checks."""


_Line = _Begun | _Done | _Over

# -- in the process that may be lost --------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(prog="edged-conformance")
    parser.add_argument("--wish", required=True)
    parser.add_argument("--skip", type=int, default=0)
    arguments = parser.parse_args()
    out = answer_only()
    with open(out, "wb", buffering=0) as stream:  # noqa: PTH123  a descriptor
        wish = msgspec.json.decode(arguments.wish, type=Wish)
        for line in _lines(wish, arguments.skip):
            stream.write(msgspec.json.encode(line) + b"\n")
        os._exit(0)  # a runtime's threads may not end


def _lines(wish: Wish, skip: int) -> Iterator[_Line]:
    asked = Result(wish.name, ASKED, SENTENCE, False)
    yield _Begun(asked)
    try:
        planned = list(steps(wish))
    except Exception as error:  # noqa: BLE001  a stranger's code
        reason = error.message if isinstance(error, EdgedError) else f"it raised {error!r}"
        yield _Done(msgspec.structs.replace(asked, reason=reason))
        yield _Over()
        return
    yield _Done(msgspec.structs.replace(asked, passed=True))
    for step in planned[skip:]:
        yield from _tried(step)
    yield _Over()


def _tried(step: Step) -> Iterator[_Line]:
    yield _Begun(step.check.result(step.subject, False))
    yield _Done(step.run())


# -- for the one who asks -------------------------------------------------------------------------


def run(
    wish: Wish, *, deadline: float = DEADLINE_SECONDS, stall: float = STALL_SECONDS
) -> Iterator[Result]:
    """Try every check, in as many processes as it takes; yields what came of each."""
    from edged.config import default_file, load

    wish = replace(wish, options=load(default_file()).provider_options())
    tried = 0
    lost = True
    while lost:
        lost = False
        for result in _Attempt(wish, max(0, tried - 1), deadline, stall):
            if result.name == ASKED and tried:
                continue  # said already
            tried += 1
            yield result
            lost = result.reason is not None and result.reason.startswith(LOST)
        lost = lost and tried > 1


LOST = "the process that tried it "


class _Attempt:
    """One process: yields what came of its checks, with the one that it was lost in."""

    def __init__(self, wish: Wish, skip: int, deadline: float, stall: float) -> None:
        self._deadline, self._stall = deadline, stall
        python = interpreter(wish.name, wish.options)
        self._process = subprocess.Popen(
            [
                python.python,
                "-m",
                "edged.testing.apart",
                f"--wish={msgspec.json.encode(wish).decode()}",
                f"--skip={skip}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=worker_environment(python.environment),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._errors: list[bytes] = []
        _read(self._process.stdout, self._lines.put)
        _read(self._process.stderr, self._keep)

    def _keep(self, line: bytes) -> None:
        self._errors = [*self._errors[-5:], line]

    def __iter__(self) -> Iterator[Result]:
        begun: Result | None = None
        try:
            while not isinstance(line := self._next(), _Over):
                if isinstance(line, str):
                    assert begun is not None, line
                    yield msgspec.structs.replace(begun, reason=LOST + line)
                    return
                begun = line.result
                if isinstance(line, _Done):
                    yield line.result
        finally:
            self._end()

    def _next(self) -> _Line | str:
        """The next line, or how the process was lost."""
        started, stillness = time.monotonic(), Stillness(self._process.pid)
        while True:
            with contextlib.suppress(queue.Empty):
                line = self._lines.get(timeout=0.2)
                return msgspec.json.decode(line, type=_Line) if line else self._how_it_ended()
            if stillness.seconds() > self._stall:
                return f"did nothing for {self._stall:.0f} s"
            if time.monotonic() - started > self._deadline:
                return f"was not done after {self._deadline:.0f} s"

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        how = f"was ended by {signal_name(-code)}" if code < 0 else f"left with exit code {code}"
        said = [line.decode("utf-8", "replace").strip() for line in self._errors if line.strip()]
        return f"{how}: {said[-1][:300]}" if said else how

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _read(pipe: IO[bytes], take: object) -> None:
    """Hand over a pipe's lines from a thread, and an empty one at its end."""

    def read() -> None:
        with pipe:
            for line in iter(pipe.readline, b""):
                take(line)  # type: ignore[operator]
        take(b"")  # type: ignore[operator]

    threading.Thread(target=read, daemon=True).start()


if __name__ == "__main__":
    main()
