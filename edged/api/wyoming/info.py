"""What edged says of itself to a Wyoming client that asks."""

from __future__ import annotations

from typing import Any

from edged import __version__
from edged.daemon import Daemon
from edged.errors import ModelError
from edged.models.store import Model
from edged.recognizer import SAMPLE_RATE

MICROPHONE_FORMAT = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}


def info(daemon: Daemon) -> dict[str, Any]:
    """The data of `info`: recognition with the model that serves, and the microphone if it may."""
    model = served_model(daemon)
    asr = {
        **_program("Streaming speech recognition"),
        "models": [_model(model)] if model else [],
        "supports_transcript_streaming": True,
        # Several utterances may be one request: it ends when its client says so.
        "requires_external_vad": True,
    }
    nothing: dict[str, Any] = {kind: [] for kind in ("tts", "handle", "intent", "wake", "snd")}
    return {**nothing, "asr": [asr], "mic": _microphones(daemon)}


def served_model(daemon: Daemon) -> Model | None:
    """The model that serves; None while there is none."""
    state = daemon.supervisor.state
    rung = state.effective or state.requested
    try:
        return daemon.models.get(rung.model) if rung else None
    except ModelError:
        return None


def _microphones(daemon: Daemon) -> list[dict[str, Any]]:
    if not daemon.configuration.wyoming.microphone:
        return []
    return [{**_program("The microphone"), "mic_format": MICROPHONE_FORMAT}]


def _program(description: str) -> dict[str, Any]:
    return {
        "name": "edged",
        "description": description,
        "version": __version__,
        "installed": True,
        "attribution": {"name": "edged", "url": ""},
    }


def _model(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "description": f"{model.name} ({model.licence})",
        "version": model.source.partition(" ")[2],
        "installed": True,
        "attribution": {"name": model.source, "url": ""},
        "languages": [model.language],
    }
