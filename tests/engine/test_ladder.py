from __future__ import annotations

from edged.engine.ladder import HOLD_SECONDS, LONGEST_HOLD_SECONDS, TRUST_SECONDS, Ladder
from edged.messages import Rung
from tests.conftest import BASE, TINY

RUNGS = [Rung(model, "onnxruntime", "cpu", "int8") for model in (BASE, TINY)]


def test_the_last_step_is_the_last_rung_with_fewer_partials() -> None:
    ladder = Ladder(RUNGS)
    assert [(step.rung.model, step.pace) for step in ladder.steps] == [
        (BASE, 1.0),
        (TINY, 1.0),
        (TINY, 3.0),
    ]
    assert ladder.requested == RUNGS[0]


def test_it_goes_down_step_by_step_and_says_why() -> None:
    ladder = Ladder(RUNGS)
    ladder.leave(1, "heat", now=0)
    ladder.leave(2, "more heat", now=1)
    assert (ladder.index, ladder.reason, ladder.lower()) == (2, "more heat", None)
    assert [step.reason for step in ladder.steps] == ["heat", "more heat", None]


def test_another_rung_is_not_the_same_one_slower() -> None:
    ladder = Ladder(RUNGS)
    assert ladder.next_rung == 1
    ladder.leave(1, "it died", now=0)
    assert ladder.next_rung is None


def test_a_rung_that_was_left_is_tried_again_after_a_while_and_each_time_later() -> None:
    ladder = Ladder(RUNGS)
    now = 0.0
    for failure in range(4):
        ladder.leave(1, "it died", now)
        wait = HOLD_SECONDS * 2**failure
        assert ladder.higher(now + wait - 1) is None
        now += wait
        assert ladder.higher(now) == 0
        ladder.climb(0, now)


def test_no_wait_is_longer_than_an_hour() -> None:
    ladder = Ladder(RUNGS)
    for _ in range(30):
        ladder.refuse(0, "no", now=0)
    assert ladder.steps[0].until == LONGEST_HOLD_SECONDS


def test_a_rung_that_served_long_is_trusted_again() -> None:
    ladder = Ladder(RUNGS)
    ladder.leave(1, "it died", now=0)
    ladder.climb(0, now=100)
    ladder.leave(1, "it died", now=100 + TRUST_SECONDS + 1)
    assert ladder.steps[0].failures == 1


def test_what_is_pinned_stays() -> None:
    ladder = Ladder(RUNGS)
    ladder.pin(1, now=0)
    assert ladder.lower() is None
    assert ladder.higher(now=1e9) is None
    ladder.pinned = False
    assert ladder.higher(now=1e9) == 0


def test_a_device_that_is_unplugged_is_passed_over_until_it_comes_again() -> None:
    stick = Rung("base", "openvino", "myriad", "fp16")
    ladder = Ladder([stick, Rung("base", "onnxruntime", "cpu", "int8")])
    ladder.attend("openvino myriad", present=False)
    assert ladder.step.absent
    below = ladder.lower()
    assert below is not None
    ladder.leave(below, "unplugged", 0.0)
    assert ladder.higher(1e6) is None
    ladder.attend("openvino myriad", present=True)
    assert ladder.higher(0.0) == 0
