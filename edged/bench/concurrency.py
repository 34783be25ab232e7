"""How many who speak at once get their finals in time.

So many streams, each at the pace of time, begun one after the other: twice as many until a bound is
broken, then one level between the last that held and the first that did not; where none held, ever
half as many.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from statistics import mean

from websockets.exceptions import ConnectionClosed, WebSocketException

from edged.bench import figures
from edged.bench.clips import Clip
from edged.bench.hearing import Hearing, hear
from edged.bench.result import Found, Level, Observation, Series
from edged.bench.room import Room
from edged.errors import EdgedError
from edged.messages import Rung

BOUND_SECONDS = 1.0
"""95 % of the finals come no later after the end of speech"""
FIRST = 4
MOST = 256
STAGGER_SECONDS = 3.0
"""From the first stream's beginning to the last's, so that they do not all end at once"""


def measure(room: Room) -> Found:
    tried = list(_levels(room))
    carried = max((level.streams for level, _ in tried if level.kept), default=0)
    most = Series(
        name="concurrency streams",
        unit=f"streams, p95 of finals under {BOUND_SECONDS:.0f} s",
        better="higher",
        observations=[Observation("", carried)],
    )
    finals = [
        Series(
            name=f"concurrency final, {level.streams} streams",
            unit="s",
            statistics=("p50", "p95"),
            observations=[Observation(h.name, s) for h in heard if (s := _final(h)) is not None],
        )
        for level, heard in tried
    ]
    return Found([most, *finals], levels=[level for level, _ in tried])


def _levels(room: Room) -> Iterator[tuple[Level, list[Hearing]]]:
    """Each with what was heard."""
    kept, streams = 0, FIRST
    while streams <= MOST:
        tried = _level(room, streams)
        yield tried
        if not tried[0].kept:
            break
        kept, streams = streams, 2 * streams
    while streams <= MOST and (middle := (kept + streams) // 2) > kept:
        tried = _level(room, middle)
        yield tried
        if kept or tried[0].kept:
            break
        streams = middle


def _level(room: Room, streams: int) -> tuple[Level, list[Hearing]]:
    limits = {"server_max_streams": 2 * MOST, "server_max_clients": 2 * MOST}
    with room.running(limits) as daemon:
        room.warm(daemon)
        used, started = time.process_time(), time.monotonic()
        heard, troubles = _speak(daemon.url, streams, room.clips)
        client = (time.process_time() - used) / (time.monotonic() - started)
        effective = daemon.address.get("/v1/health")["engine"]["effective"]
        moved = effective != _as_json(room.rung)
    troubles += [f"the engine moved to {effective}"] * moved
    return judge(streams, heard, troubles, client), heard


def _as_json(rung: Rung) -> dict[str, str]:
    return {name: getattr(rung, name) for name in Rung.__struct_fields__}


def judge(
    streams: int, heard: Sequence[Hearing], troubles: Sequence[str], client: float = 0.0
) -> Level:
    """Whether all were served in time."""
    known = [seconds for one in heard if (seconds := _final(one)) is not None]
    missing = sum(not one.finals for one in heard)
    told = [*troubles, *[f"{missing} of {streams} got no final"] * bool(missing)]
    p50, p95 = (figures.percentile(known, p) for p in (50, 95))
    return Level(
        streams=streams,
        kept=not told and p95 is not None and p95 < BOUND_SECONDS,
        final_p50=p50,
        final_p95=p95,
        finals_per_recording=round(mean(one.finals for one in heard), 3) if heard else 0.0,
        client_processor=round(client, 3),
        trouble="; ".join(dict.fromkeys(told)),
    )


def _final(heard: Hearing) -> float | None:
    return None if heard.early else heard.final


def _reason(error: Exception) -> str:
    """What the daemon said, if it closed the connection."""
    closing = error.rcvd if isinstance(error, ConnectionClosed) else None
    return closing.reason if closing else str(error)


def _speak(url: str, streams: int, clips: Sequence[Clip]) -> tuple[list[Hearing], list[str]]:
    """What was heard, and of how many not, with the reason."""
    heard: list[Hearing] = []
    refused: list[str] = []

    def speak(number: int) -> None:
        time.sleep(STAGGER_SECONDS * number / streams)
        clip = clips[number % len(clips)]
        try:
            heard.append(hear(url, clip.name, clip.samples))
        except (EdgedError, OSError, WebSocketException) as error:
            refused.append(_reason(error))

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return heard, [f"{len(refused)} refused: {refused[0]}"] if refused else []
