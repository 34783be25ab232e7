"""OpenAI's words for when an utterance begins and ends, and the engine's for the same."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from edged.engine.endpointer import Endpointing, rules
from edged.messages import Turns
from edged.recognizer import SAMPLE_RATE

PER_MILLISECOND = SAMPLE_RATE // 1000

Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]
Probability = Annotated[float, Meta(ge=0, le=1)]


class ServerVad(Struct, tag_field="type", tag="server_vad", frozen=True):
    """Silence ends an utterance. Where none is given, the engine's own rules hold."""

    threshold: Probability | None = None
    prefix_padding_ms: Milliseconds | None = None
    silence_duration_ms: Milliseconds | None = None


class SemanticVad(Struct, tag_field="type", tag="semantic_vad", frozen=True):
    """Less silence ends an utterance whose text reads as finished."""

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"


Detection = ServerVad | SemanticVad


def turns(detection: Detection) -> Turns | None:
    """What the engine is told; None where its own rules are wished."""
    if isinstance(detection, SemanticVad):
        return _by_eagerness(detection.eagerness)
    if detection == ServerVad():
        return None
    silence = _samples(detection.silence_duration_ms)
    return Turns(
        onset=detection.threshold,
        preroll=_samples(detection.prefix_padding_ms),
        early=silence,
        late=silence,
    )


def _by_eagerness(eagerness: str) -> Turns | None:
    usual = Endpointing()
    if eagerness == "low":
        return Turns(late=2 * usual.late)
    return Turns(late=usual.early) if eagerness == "high" else None


def _samples(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds * PER_MILLISECOND


def described(detection: Detection) -> dict[str, Any]:
    """What is in force, in OpenAI's words: the longest silence that is waited for."""
    if isinstance(detection, SemanticVad):
        return {"type": "semantic_vad", "eagerness": detection.eagerness}
    held = rules(turns(detection))
    return {
        "type": "server_vad",
        "threshold": held.onset,
        "prefix_padding_ms": held.preroll // PER_MILLISECOND,
        "silence_duration_ms": held.late // PER_MILLISECOND,
    }
