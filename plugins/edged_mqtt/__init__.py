"""MQTT as a transcript sink of edged: `[sinks.mqtt]` with a host switches it on."""

from __future__ import annotations

from collections.abc import Iterable

from edged.hookspecs import hookimpl
from edged.sink import TranscriptSink


@hookimpl
def edged_transcript_sinks() -> Iterable[type[TranscriptSink]]:
    from edged_mqtt.sink import MqttSink

    return [MqttSink]
