"""The sound's own clock: capture times from arrivals, drift, sound that was lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.audio.clock import SoundClock

RATE, BLOCK = 16000, 512
SECONDS = BLOCK / RATE


def arrivals(count: int, drift: float = 0.0, seed: int = 1) -> Iterator[tuple[float, float]]:
    """When blocks are captured, and when they come: up to 40 ms later, most of them at once."""
    late = np.random.default_rng(seed).gamma(0.5, 0.004, count)
    for number in range(1, count + 1):
        captured = number * SECONDS / (1 + drift / 1e6)
        yield captured, captured + 0.05 + min(0.04, late[number - 1])


def test_late_blocks_are_stamped_with_the_time_of_their_sound() -> None:
    it = SoundClock(RATE)
    took = [(captured, it.take(BLOCK, came)) for captured, came in arrivals(2000)]
    wrong = [abs(stamp - captured - 0.05) for captured, stamp in took[100:]]
    assert max(wrong) < 0.002


def test_what_was_held_back_and_came_at_once_is_stamped_block_by_block() -> None:
    """After a machine that was busy for three seconds."""
    it = SoundClock(RATE)
    stamps = [it.take(BLOCK, max(came, 15.0) if came > 12 else came) for _, came in arrivals(1000)]
    steps = np.diff(stamps)
    assert abs(steps - SECONDS).max() < 0.04, "no gap, and no jump"


def test_sound_that_never_came_shows_as_a_step_after_a_while() -> None:
    it = SoundClock(RATE)
    for _, came in arrivals(500):
        before = it.take(BLOCK, came)
    stamps = [it.take(BLOCK, came + 0.7) for _, came in list(arrivals(800))[500:]]
    assert stamps[0] - before < 0.1, "it may still come"
    assert stamps[-1] - before == pytest.approx(300 * SECONDS + 0.7, abs=0.01)
    [step] = np.flatnonzero(np.diff(stamps) > 0.5)
    assert 1.9 < step * SECONDS < 4.1


@pytest.mark.parametrize("drift", [-80.0, 0.0, 25.0])
def test_drift_is_told_within_5_parts_per_million(drift: float) -> None:
    it = SoundClock(RATE)
    known = [it.drift for _, came in arrivals(6000, drift) if it.take(BLOCK, came)]
    assert known[1800] is None, "not in the first minute"
    assert known[-1] == pytest.approx(drift, abs=5)


def test_a_step_is_no_drift() -> None:
    it = SoundClock(RATE)
    for number, (_, came) in enumerate(arrivals(6000)):
        it.take(BLOCK, came + (0.7 if number > 2000 else 0.0))
    assert it.drift == pytest.approx(0, abs=5)


SLEEPS = """
import ctypes, os, sys
from edged.audio.clock import Sleep
sleep = Sleep()
before = sleep.seconds()
namespace = os.open(f"/proc/{sys.argv[1]}/ns/time", os.O_RDONLY)
if ctypes.CDLL(None, use_errno=True).setns(namespace, 0x80):
    sys.exit(f"setns: {os.strerror(ctypes.get_errno())}")
print(before, sleep.seconds(), sleep.seconds())
"""


def test_a_machine_that_has_slept_is_noticed() -> None:
    """The kernel's own clocks: a process that is moved to where CLOCK_BOOTTIME is an hour on."""
    elsewhere = subprocess.Popen(
        ["unshare", "--time", "--fork", "--kill-child", "--boottime", "3600", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert elsewhere.stdin
        assert elsewhere.stdout
        elsewhere.stdin.write(b"\n")
        elsewhere.stdin.flush()
        if not elsewhere.stdout.readline():
            pytest.skip("there are no time namespaces here, or only for root")
        [child] = Path(f"/proc/{elsewhere.pid}/task/{elsewhere.pid}/children").read_text().split()
        done = subprocess.run(
            [sys.executable, "-c", SLEEPS, child], capture_output=True, text=True, check=False
        )
    finally:
        elsewhere.kill()
        elsewhere.communicate()
    assert done.returncode == 0, done.stderr
    before, slept, after = map(float, done.stdout.split())
    assert (before, after) == (0, 0)
    assert slept == pytest.approx(3600, abs=1)
