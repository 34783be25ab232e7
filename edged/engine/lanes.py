"""Threads that recognise, so that the encoder of one stream runs beside the decoder of another.

The runtimes give up Python's lock while they compute. Who hands out the work hears by a descriptor
that some of it is done, and so can wait for that and for a socket at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], None]


class Lanes:
    """A few threads; each does one job at a time. All methods are for one thread."""

    def __init__(self, count: int) -> None:
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable when a job is done"""
        self.count = count
        """How many jobs may be done at a time: at most so many as at the beginning"""
        self.seconds = 0.0
        """That all jobs together have taken"""
        self._jobs: SimpleQueue[tuple[Job, Job]] = SimpleQueue()
        self._done: deque[tuple[Job, float, BaseException | None]] = deque()
        self._begun: dict[int, float] = {}
        """When each thread that is at work began, by the monotonic clock"""
        self._open = 0
        """Jobs that were given and whose end is not yet told"""
        for number in range(count):
            threading.Thread(target=self._work, args=(number,), daemon=True).start()

    @property
    def free(self) -> int:
        return self.count - self._open

    @property
    def longest(self) -> float:
        """Seconds that the job that has been at work for longest has taken so far."""
        now = time.monotonic()
        return max((now - begun for begun in list(self._begun.values())), default=0.0)

    def do(self, job: Job, then: Job) -> None:
        """Have a job done; `collect` then calls `then`."""
        self._open += 1
        self._jobs.put((job, then))

    def collect(self) -> None:
        """Go on with what is done. Raises what a job raised."""
        try:
            os.eventfd_read(self.bell)
        except BlockingIOError:
            return
        while self._done:
            then, seconds, error = self._done.popleft()
            self._open -= 1
            self.seconds += seconds
            if error is not None:
                raise error
            then()

    def _work(self, number: int) -> None:
        while True:
            job, then = self._jobs.get()
            error: BaseException | None = None
            started = self._begun[number] = time.monotonic()
            try:
                job()
            except BaseException as raised:  # noqa: BLE001 - whoever collects is told
                error = raised
            del self._begun[number]
            self._done.append((then, time.monotonic() - started, error))
            os.eventfd_write(self.bell, 1)
