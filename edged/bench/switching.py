"""How long a move along the ladder takes: from the order until the other rung serves."""

from __future__ import annotations

import time

import msgspec

from edged.bench.daemon import DaemonProcess, running
from edged.bench.result import Found, Observation, Series
from edged.bench.room import Room

MOVES = 2
"""There and back again, so many times"""
HEADERS = {"Content-Type": "application/json"}


def measure(room: Room) -> Found:
    """On the ladder that this machine would have: that of the lightest model has one rung only."""
    with running("auto", room.settings, installation=room.installation) as daemon:
        steps = daemon.address.get("/v1/engine")["steps"]
        here = next(number for number, step in enumerate(steps) if step["serving"])
        there = next((n for n, s in enumerate(steps) if s["rung"] != steps[here]["rung"]), None)
        if there is None:
            return Found(notes=["switch: there is only one rung. Run: edged probe"])
        moves = [_move(daemon, to) for _ in range(MOVES) for to in (there, here)]
    return Found(
        [
            Series(
                name=f"switch to {_name(steps[to]['rung'])}",
                unit="s",
                statistics=("p50",),
                observations=[Observation(f"move {n}", s) for n, s in enumerate(moves[part::2])],
            )
            for part, to in enumerate((there, here))
        ]
    )


def _name(rung: dict[str, str]) -> str:
    return f"{rung['model']} {rung['precision']} on {rung['provider']} {rung['device']}"


def _move(daemon: DaemonProcess, to: int) -> float:
    """In seconds."""
    started = time.monotonic()
    order = msgspec.json.encode({"action": "pin", "step": to})
    daemon.address.ask("POST", "/v1/engine", order, HEADERS)
    daemon.wait(lambda: daemon.address.get("/v1/engine")["steps"][to]["serving"])
    return time.monotonic() - started
