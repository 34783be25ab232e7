"""The hooks that a plugin may implement.

Called once, at start, plugin by plugin: one that raises is listed with its reason and harms
nobody. A plugin's own module must import nothing but edged; its runtime may be absent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from edged.policy import Policy
    from edged.provider import ExecutionProvider
    from edged.recognizer import Recognizer, VoiceDetector

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
