"""Messages that nobody would send, and what they may leave behind: nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.api.http import ask
from tests.daemon import DaemonProcess

SPARE_DESCRIPTORS = 4
SPARE_THREADS = 8
"""A pool of them grows to its size at its first need"""
SPARE_BYTES = 30e6


def mutated(random_: random.Random, message: bytes) -> bytes:
    """A message with some of its bytes changed, cut out, or said twice."""
    data = bytearray(message)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data) + 1)
        match random_.randrange(3):
            case 0:
                data[at : at + 1] = bytes([random_.randrange(256)])
            case 1:
                del data[at : at + random_.randint(1, 8)]
            case _:
                data[at:at] = data[at : at + random_.randint(1, 8)]
    return bytes(data)


@contextmanager
def leaves_nothing(daemon: DaemonProcess) -> Iterator[None]:
    """Meanwhile no process ends, and no client, descriptor, thread or memory is left behind."""
    before = _held(daemon)
    yield
    daemon.wait(lambda: _is_idle(daemon))
    daemon.wait(lambda: _held(daemon)[1] <= before[1] + SPARE_DESCRIPTORS)
    after = _held(daemon)
    assert after[0] == before[0], "a process was replaced"
    assert after[2] <= before[2] + SPARE_THREADS
    assert after[3] <= before[3] + SPARE_BYTES
    assert "Traceback" not in daemon.log.read_text()


def _is_idle(daemon: DaemonProcess) -> bool:
    metrics = ask(daemon, "/metrics").text
    return "edged_streams 0.0" in metrics and "edged_clients 0.0" in metrics


def _held(daemon: DaemonProcess) -> tuple[list[int], int, int, int]:
    """Its processes, their descriptors and threads, and its own memory: a worker's goes by the
    longest utterances that it has heard at the same time."""
    family = [psutil.Process(daemon.pid), *psutil.Process(daemon.pid).children()]
    return (
        [process.pid for process in family],
        sum(process.num_fds() for process in family),
        sum(process.num_threads() for process in family),
        family[0].memory_full_info().uss,
    )
