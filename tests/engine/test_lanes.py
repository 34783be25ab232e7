from __future__ import annotations

import select
import threading
import time

import pytest

from edged.engine.lanes import Lanes


def wait(lanes: Lanes) -> None:
    """Until a job is done, as who waits for a socket as well would."""
    assert select.select([lanes.bell], [], [], 5)[0]
    lanes.collect()


def test_two_jobs_are_done_at_once() -> None:
    lanes = Lanes(2)
    together = threading.Barrier(2, timeout=5)
    done: list[str] = []
    for name in ("one", "other"):
        lanes.do(lambda: together.wait() and None, lambda name=name: done.append(name))
    assert lanes.free == 0
    while len(done) < 2:
        wait(lanes)
    assert lanes.free == 2


def test_where_only_one_may_be_done_there_is_no_room_for_another() -> None:
    lanes = Lanes(2)
    lanes.count = 1
    lanes.do(lambda: None, lambda: None)
    assert lanes.free == 0
    wait(lanes)
    assert lanes.free == 1


def test_what_a_job_raises_is_raised_where_it_was_given() -> None:
    lanes = Lanes(1)
    lanes.do(lambda: print(int("none")), lambda: pytest.fail("it did not succeed"))
    with pytest.raises(ValueError, match="none"):
        wait(lanes)


def test_a_job_that_does_not_end_is_seen() -> None:
    lanes = Lanes(2)
    begun, end = threading.Event(), threading.Event()
    lanes.do(lambda: begun.set() or (end.wait(5) and None), lambda: None)
    assert begun.wait(5)
    time.sleep(0.3)
    lanes.do(lambda: None, lambda: None)
    wait(lanes)
    assert lanes.longest >= 0.3
    end.set()
    wait(lanes)
    assert lanes.longest == 0
    assert lanes.seconds >= 0.3
