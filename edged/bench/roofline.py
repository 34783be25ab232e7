"""What encoder and decoder reach of what the processor and its memory can do."""

from __future__ import annotations

import asyncio

from edged import config
from edged.bench.result import Found, Observation, Roofline, Series
from edged.bench.room import Room
from edged.engine.ask import ASK_SECONDS, run_apart
from edged.engine.choose import worker_options
from edged.engine.peaks import Peaks
from edged.engine.prove import Verdict, prove_apart
from edged.models.inventory import store


def measure(room: Room) -> Found:
    if not room.installation.is_ours:
        return Found()
    return asyncio.run(_measure(room))


async def _measure(room: Room) -> Found:
    peaks: Peaks = await run_apart("edged.engine.peaks", Peaks, ASK_SECONDS)
    folder = store().place(room.rung.model)
    verdict = await prove_apart(room.rung, folder, worker_options(config.load(None)))
    if not verdict.graphs:
        return Found(notes=[f"roofline: {_why(verdict)}"])
    series = [
        Series(
            name=f"roofline {name}",
            unit="GFLOP/s",
            better="higher",
            observations=[Observation("", graph.gigaflops)],
        )
        for name, graph in verdict.graphs.items()
    ]
    return Found(series, roofline=Roofline(peaks=peaks, graphs=verdict.graphs))


def _why(verdict: Verdict) -> str:
    return verdict.reason or f"the work of {verdict.rung} is not counted"
