from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from edged.config import EngineSection
from edged.engine.adaptive import Adaptive
from edged.engine.choose import Selection, ladder, meets, too_slow
from edged.engine.prove import Verdict
from edged.messages import Ready, Rung
from tests.conftest import BASE, TINY


def ready(check_seconds: float) -> Ready:
    return Ready("onnxruntime 1", "cpu", 0.5, check_seconds)


ORDER = ["onnxruntime cuda fp16", "onnxruntime cpu int8", "onnxruntime cpu fp32"]
BUILT = {TINY: ["int8", "fp32", "int4"], BASE: ["int8"]}


def verdict(rung: Rung, ok: bool = True, factor: float = 0.02, kind: str = "cpu") -> Verdict:
    return Verdict(rung=rung, ok=ok, time=0.0, kind=kind, real_time_factor=factor)


def rungs(
    known: Callable[[Rung], Verdict | None] = lambda _rung: None,
    built: dict[str, list[str]] = BUILT,
    **asked: Any,
) -> list[str]:
    section = EngineSection.model_validate(asked)
    by_provider = {model: {"onnxruntime": precisions} for model, precisions in built.items()}
    found = Selection(section, by_provider, ORDER, known).candidates()
    return [
        f"{rung.model.split('-')[1]} {rung.device} {rung.precision}"
        for rung in ladder(section, found, Adaptive())
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


def test_a_model_for_one_provider_alone_is_chosen_by_its_name_in_what_it_is_built_in() -> None:
    built = {TINY: {"onnxruntime": ["int8"]}, "my-own": {"onnxruntime": [], "sherpa": ["fp32"]}}

    def chosen(**asked: Any) -> list[str]:
        section = EngineSection.model_validate(asked)
        found = Selection(section, built, ORDER, lambda _rung: None).candidates()
        return [str(rung) for rung in ladder(section, found, Adaptive())]

    assert chosen(model="my-own") == ["my-own fp32 on sherpa cpu"]
    assert chosen(model="my-own", provider="onnxruntime") == []
    assert chosen() == [f"{TINY} int8 on onnxruntime cpu"]


def test_a_device_that_is_proven_comes_as_the_profile_wants_it() -> None:
    both = {TINY: ["int8", "fp16"]}
    assert rungs(verdict, both) == ["tiny cuda fp16", "tiny cpu int8"]


def test_what_was_refused_here_gives_its_place_to_another_precision() -> None:
    def known(rung: Rung) -> Verdict | None:
        return verdict(rung, ok=False) if rung.precision == "int8" else None

    assert rungs(known, model=TINY, fallback="fail") == ["tiny cpu fp32"]


def test_few_bits_serve_only_those_who_ask_for_them() -> None:
    def known(rung: Rung) -> Verdict | None:
        factor = 0.001 if rung.precision == "int4" else 0.02
        return verdict(rung, factor=factor) if rung.device == "cpu" else None

    both = {TINY: ["int4", "int8"]}
    assert rungs(known, both) == ["tiny cpu int8"]
    assert rungs(known, both, precision="int4") == ["tiny cpu int4", "tiny cpu int8"]


def test_what_was_asked_for_and_refused_is_no_ladder() -> None:
    assert rungs(lambda rung: verdict(rung, ok=False)) == []


def test_nothing_built_is_no_ladder() -> None:
    assert rungs(built={}) == []


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
