from __future__ import annotations

from edged.config import EngineSection
from edged.engine.choose import ladder, too_slow
from edged.messages import Ready
from tests.conftest import BASE, TINY


def ready(check_seconds: float) -> Ready:
    return Ready("onnxruntime 1", "cpu", 0.5, check_seconds)


def test_auto_tries_the_better_model_first() -> None:
    assert [rung.model for rung in ladder(EngineSection(), [TINY, BASE])] == [BASE, TINY]


def test_auto_takes_what_is_built() -> None:
    assert [rung.model for rung in ladder(EngineSection(), [TINY])] == [TINY]
    assert ladder(EngineSection(), []) == []


def test_a_model_by_name_is_that_model_alone() -> None:
    rungs = ladder(EngineSection(model="mine", precision="fp32"), [TINY, BASE])
    assert [(rung.model, rung.precision) for rung in rungs] == [("mine", "fp32")]


def test_a_model_without_room_to_spare_says_by_how_much() -> None:
    assert too_slow(ready(0.12), 0.05) is None
    reason = too_slow(ready(0.9), 0.05)
    assert reason is not None
    assert "0.150 s" in reason
