"""The hooks that a plugin may implement.

Called once a process, plugin by plugin: one that raises, crashes or blocks is listed with its
reason and harms nobody. A plugin's own module must import nothing but edged; its runtime may be
absent. What each hook is for, with an example: docs/plugins.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from fastapi import APIRouter
    from typer import Typer

    from edged.policy import Policy
    from edged.provider import ExecutionProvider
    from edged.recognizer import Recognizer, VoiceDetector
    from edged.sink import TranscriptSink
    from edged.source import AudioSource

PROJECT = "edged"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def edged_execution_providers() -> Iterable[ExecutionProvider]:  # type: ignore[empty-body]
    """Return the execution providers that this plugin supplies."""


@hookspec
def edged_recognizers() -> Iterable[type[Recognizer]]:  # type: ignore[empty-body]
    """Return recognisers by model family; each runs on any provider."""


@hookspec
def edged_voice_detectors() -> Iterable[type[VoiceDetector]]:  # type: ignore[empty-body]
    """Return voice detectors; each runs on any provider."""


@hookspec
def edged_policies() -> Iterable[Policy]:  # type: ignore[empty-body]
    """Return policies, which choose among the rungs that may serve."""


@hookspec
def edged_audio_sources() -> Iterable[type[AudioSource]]:  # type: ignore[empty-body]
    """Return audio sources, each for a scheme of `microphone.source`."""


@hookspec
def edged_transcript_sinks() -> Iterable[type[TranscriptSink]]:  # type: ignore[empty-body]
    """Return sinks, which are told every event of every stream."""


@hookspec
def edged_api_routers() -> Iterable[APIRouter]:  # type: ignore[empty-body]
    """Return FastAPI routers, served below /v1/plugins/NAME/ with the plugin's name."""


@hookspec
def edged_cli_commands() -> Iterable[Typer]:  # type: ignore[empty-body]
    """Return a Typer application, which becomes `edged NAME` with the plugin's name."""
