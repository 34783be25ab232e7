"""The default policy, as a table."""

from __future__ import annotations

import pytest

from edged.engine.adaptive import Adaptive
from edged.messages import Rung
from edged.policy import Candidate, Demand


def candidate(words: str, wish: int | None = None, factor: float | None = None) -> Candidate:
    """ "gpu fp16": device, which is also its kind, and precision."""
    device, precision = words.split()
    return Candidate(Rung("model", "runtime", device, precision), device, wish, factor)


def order(candidates: list[Candidate], **demand: float) -> list[str]:
    rungs = Adaptive().order(candidates, Demand(**demand))  # type: ignore[arg-type]
    return [f"{rung.device} {rung.precision}" for rung in rungs]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("cpu", "int8"), ("gpu", "fp16"), ("npu", "fp16"), ("dsp", "int8"), ("tpu", "int8")],
)
def test_a_device_computes_in_what_it_is_made_for(kind: str, expected: str) -> None:
    all_of_them = [candidate(f"{kind} {p}") for p in ("fp32", "fp16", "int8")]
    assert order(all_of_them) == [f"{kind} {expected}"]


@pytest.mark.parametrize(
    ("gpu", "cpu", "expected"),
    [
        (None, None, ["gpu fp16", "cpu int8"]),
        (None, 0.01, ["gpu fp16", "cpu int8"]),
        (0.01, 0.02, ["gpu fp16", "cpu int8"]),
        (0.02, 0.02, ["gpu fp16", "cpu int8"]),
        (0.02, 0.015, ["gpu fp16", "cpu int8"]),
        (0.04, 0.02, ["cpu int8", "gpu fp16"]),
    ],
)
def test_the_profile_orders_until_measurement_knows_better(
    gpu: float | None, cpu: float | None, expected: list[str]
) -> None:
    assert order([candidate("cpu int8", 1, cpu), candidate("gpu fp16", 0, gpu)]) == expected


def test_of_one_device_the_precision_that_is_measured_to_be_faster() -> None:
    both = [candidate("cpu int8", 0, 0.05), candidate("cpu fp32", 1, 0.02)]
    assert order(both) == ["cpu fp32"]


@pytest.mark.parametrize(
    ("demand", "expected"),
    [
        ({}, "gpu fp16"),
        ({"streams": 2}, "gpu fp16"),
        ({"streams": 4}, "cpu int8"),
        ({"streams": 4, "decode_seconds": 1.0}, "gpu fp16"),
        ({"decode_seconds": 0.1}, "cpu int8"),
    ],
)
def test_a_rung_that_cannot_carry_the_load_in_time_comes_after_one_that_can(
    demand: dict[str, float], expected: str
) -> None:
    both = [candidate("gpu fp16", 0, 0.022), candidate("cpu int8", 1, 0.016)]
    assert order(both, **demand)[0] == expected


@pytest.mark.parametrize(
    ("decode_seconds", "interval"), [(0.35, 0.3), (0.7, 0.6), (0.05, 0.15), (60.0, 1.2)]
)
def test_who_allows_more_time_has_more_audio_in_one_run(
    decode_seconds: float, interval: float
) -> None:
    assert Adaptive().interval(0.3, Demand(decode_seconds=decode_seconds)) == pytest.approx(
        interval
    )
