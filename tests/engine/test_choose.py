from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from edged.config import EngineSection
from edged.engine.choose import ladder, meets, too_slow
from edged.messages import Ready, Rung
from tests.conftest import BASE, TINY


def ready(check_seconds: float) -> Ready:
    return Ready("onnxruntime 1", "cpu", 0.5, check_seconds)


ORDER = ["onnxruntime cuda fp16", "onnxruntime cpu int8", "onnxruntime cpu fp32"]
BUILT = {TINY: ["int8", "fp32", "int4"], BASE: ["int8"]}


def cpu(rung: Rung) -> bool:
    return rung.device == "cpu"


def rungs(usable: Callable[[Rung], bool] = cpu, **asked: str) -> list[str]:
    section = EngineSection.model_validate(asked)
    return [
        f"{rung.model.split('-')[1]} {rung.device} {rung.precision}"
        for rung in ladder(section, BUILT, ORDER, usable)
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["base cpu int8", "tiny cpu int8"]),
        ({"fallback": "fail"}, ["base cpu int8", "tiny cpu int8"]),
        ({"model": TINY}, ["tiny cpu int8"]),
        ({"model": BASE}, ["base cpu int8", "tiny cpu int8"]),
        ({"model": BASE, "fallback": "fail"}, ["base cpu int8"]),
        ({"model": TINY, "precision": "fp32"}, ["tiny cpu fp32", "tiny cpu int8"]),
        ({"model": TINY, "precision": "int4", "fallback": "fail"}, ["tiny cpu int4"]),
        ({"precision": "int4"}, ["tiny cpu int4", "base cpu int8", "tiny cpu int8"]),
        ({"model": "my-own"}, ["own cpu int8"]),
        ({"model": TINY, "device": "npu", "fallback": "fail"}, ["tiny npu int8"]),
        ({"model": TINY, "device": "npu"}, ["tiny npu int8", "tiny cpu int8"]),
    ],
)
def test_what_is_asked_for_comes_first_and_what_is_lighter_after_it(
    asked: dict[str, str], expected: list[str]
) -> None:
    assert rungs(**asked) == expected


def test_a_device_that_is_proven_comes_first() -> None:
    both = {TINY: ["int8", "fp16"]}
    found = ladder(EngineSection(), both, ORDER, usable=lambda _rung: True)
    assert [rung.device for rung in found] == ["cuda", "cpu"]


def test_nothing_built_is_no_ladder() -> None:
    assert ladder(EngineSection(), {}, ORDER, cpu) == []


def test_what_meets_the_configuration() -> None:
    rung = Rung(TINY, "onnxruntime", "cpu", "int8")
    assert meets(EngineSection(), rung)
    assert meets(EngineSection(model=TINY, precision="int8"), rung)
    assert not meets(EngineSection(model=BASE), rung)


def test_a_model_without_room_to_spare_says_by_how_much() -> None:
    assert too_slow(ready(0.12), 0.05) is None
    reason = too_slow(ready(0.9), 0.05)
    assert reason is not None
    assert "0.150 s" in reason


def test_a_worker_keeps_to_the_processors_that_it_is_given() -> None:
    code = "import os; from edged.engine.worker import keep_to; keep_to([0, 4096]); "
    code += "print(sorted(os.sched_getaffinity(0)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[0]"
