"""One recording, heard at the pace of time: how long one waits, and what one sees meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edged.bench import displays
from edged.bench.client import Exchange, exchange
from edged.bench.displays import Broken, Flicker
from edged.recognizer import SAMPLE_RATE

FRAME = SAMPLE_RATE // 100
"""Samples over which energy is measured: 10 ms"""
SPEECH_RANGE_DB = 35.0
"""Frames less far below the loudest one than this are speech"""
SILENCE_SECONDS = 1.5
"""Sent after each recording, longer than any endpoint waits"""
EARLY_END_SECONDS = 0.3
"""A last final that ends so long before the speech has missed words; its latency says nothing"""


@dataclass(frozen=True, slots=True)
class Hearing:
    """Of one recording. Times in seconds."""

    name: str
    duration: float
    """Of the recording, without the silence after it"""
    speech: float
    """From the first to the last loud frame"""
    final: float | None
    """From sending the last sample of speech to receiving the last final with text"""
    endpoint: list[float]
    """`latency.endpoint` of the finals with text"""
    decode: list[float]
    """`latency.decode` of them"""
    reported: list[float]
    """`latency.total` of them"""
    first_partial: float | None
    """From sending the first sample of speech to receiving the first partial with text"""
    intervals: list[float]
    """From partial to partial of one utterance"""
    flicker: Flicker
    finals: int
    """With text"""
    early: bool
    """The last final ended well before the speech"""
    after_close: bool
    """The last final came only after the client had announced the end"""
    text: str
    broken: list[Broken]
    """Promises of the protocol that were not kept"""


def silence(seconds: float) -> np.ndarray:
    """Digital silence."""
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def speech_bounds(samples: np.ndarray) -> tuple[int, int]:
    """First and last sample of the speech in an int16 recording, by energy alone."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    power = (frames**2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-SPEECH_RANGE_DB / 10))
    return int(loud[0]) * FRAME, (int(loud[-1]) + 1) * FRAME - 1


def hear(url: str, name: str, samples: np.ndarray) -> Hearing:
    """Let the daemon at `url` hear an int16 recording, and silence after it."""
    followed = np.concatenate([samples, silence(SILENCE_SECONDS)])
    return judge(name, samples, exchange(url, followed, pace=1.0))


def judge(name: str, samples: np.ndarray, heard: Exchange) -> Hearing:
    """What came of an int16 recording that was sent at the pace of time."""
    first, last = speech_bounds(samples)
    finals = [arrival for arrival in heard.of_type("final") if arrival.event["text"]]
    partials = [arrival for arrival in heard.of_type("partial") if arrival.event["text"]]
    latencies = [final.event["latency"] for final in finals]
    shown = displays.utterances(heard.arrivals)
    return Hearing(
        name=name,
        duration=len(samples) / SAMPLE_RATE,
        speech=(last - first) / SAMPLE_RATE,
        final=finals[-1].at - heard.sent_at(last) if finals else None,
        endpoint=[latency["endpoint"] for latency in latencies],
        decode=[latency["decode"] for latency in latencies],
        reported=[latency["total"] for latency in latencies],
        first_partial=partials[0].at - heard.sent_at(first) if partials else None,
        intervals=[seconds for one in shown for seconds in displays.intervals(one)],
        flicker=sum((displays.flicker(one) for one in shown), Flicker()),
        finals=len(finals),
        early=bool(finals) and finals[-1].event["end"] < last / SAMPLE_RATE - EARLY_END_SECONDS,
        after_close=bool(finals) and finals[-1].at > heard.closed_at,
        text=heard.text,
        broken=displays.broken_promises(heard.arrivals),
    )
