"""The default policy: kind of device, load and time allowed decide on precision and batching.

Of the variants of a model that differ in hardware and precision, the one is taken that keeps the
time allowed at the load, by measurement where there is one (Romero et al., "INFaaS: Automated
Model-less Inference Serving", USENIX ATC 2021). Utterances are not merged into one run: they differ
in length, and a processor gains nothing. What is batched is audio: a run for a partial takes the
more of it, the more time is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from edged.hookspecs import hookimpl
from edged.messages import Rung
from edged.policy import Candidate, Demand, Policy

PRECISIONS = {
    "cpu": ("int8", "bf16", "fp32", "fp16"),
    "gpu": ("fp16", "bf16", "int8", "fp32"),
    "npu": ("fp16", "int8"),
    "dsp": ("int8", "fp16"),
    "tpu": ("int8",),
}
"""By kind of device the precisions that its arithmetic is made for, best first"""
SPEED_STEP = 1.5
"""A rung must be so many times as fast to be taken before one that the profile prefers"""
UTTERANCE_SECONDS = 5.0
"""Of speech, whose recognition has to keep the time allowed"""
LEAST_FACTOR, LARGEST_FACTOR = 0.5, 4.0
"""On the usual time between partials"""


class Adaptive(Policy):
    """The profile's order, until measurement knows better."""

    name = "adaptive"

    def order(self, candidates: Sequence[Candidate], demand: Demand) -> list[Rung]:
        preferred = _by_speed(sorted(candidates, key=_preference))
        # Another precision on the same device is no lighter rung, only another one.
        devices: dict[tuple[str, str], Candidate] = {}
        for candidate in preferred:
            devices.setdefault((candidate.rung.provider, candidate.rung.device), candidate)
        kept = sorted(devices.values(), key=lambda c: not _keeps_up(c, demand))
        return [candidate.rung for candidate in kept]

    def interval(self, usual: float, demand: Demand) -> float:
        allowed = demand.decode_seconds / Demand().decode_seconds
        return usual * min(max(allowed, LEAST_FACTOR), LARGEST_FACTOR)


def _preference(candidate: Candidate) -> tuple[bool, int, int]:
    """The profile's order, then what the device is made for."""
    made_for = PRECISIONS.get(candidate.kind, ())
    precision = candidate.rung.precision
    suits = made_for.index(precision) if precision in made_for else len(made_for)
    return candidate.wish is None, candidate.wish or 0, suits


def _by_speed(preferred: Sequence[Candidate]) -> list[Candidate]:
    """Those that were measured in the order of their speed; the others keep their places."""
    factors = [c.real_time_factor for c in preferred if c.real_time_factor]
    steps = {c.rung: _steps(c, min(factors)) for c in preferred if c.real_time_factor}
    measured = iter(sorted((c for c in preferred if c.rung in steps), key=lambda c: steps[c.rung]))
    return [next(measured) if c.rung in steps else c for c in preferred]


def _steps(candidate: Candidate, fastest: float) -> int:
    assert candidate.real_time_factor is not None
    return int(math.log(candidate.real_time_factor / fastest, SPEED_STEP))


def _keeps_up(candidate: Candidate, demand: Demand) -> bool:
    """Whether the last of the utterances at once is done in time; what is unknown is hoped for."""
    factor = candidate.real_time_factor or 0.0
    return factor * UTTERANCE_SECONDS * demand.streams <= demand.decode_seconds


@hookimpl
def edged_policies() -> Iterable[Policy]:
    return [Adaptive()]
