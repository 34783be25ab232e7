"""What Home Assistant is told of us: MQTT discovery, one retained message an entity."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from edged_mqtt.settings import Settings

LONGEST_STATE = 255
"""Characters that Home Assistant takes as a state"""

Entity = tuple[str, dict[str, Any] | None]
"""A topic and a configuration; None takes back what an earlier run may have told"""


def entities(settings: Settings) -> Iterator[Entity]:
    """The last text, whether somebody speaks, and mute: a switch where commands are allowed."""
    yield _entity(
        settings,
        "sensor",
        "text",
        name="Last text",
        icon="mdi:text-recognition",
        state_topic=settings.topic("final"),
        value_template=f"{{{{ value_json.text[:{LONGEST_STATE}] }}}}",
        json_attributes_topic=settings.topic("final"),
    )
    yield _entity(
        settings,
        "binary_sensor",
        "speaking",
        name="Speaking",
        device_class="sound",
        state_topic=settings.topic("speaking"),
    )
    state = {"name": "Mute", "icon": "mdi:microphone-off", "state_topic": settings.topic("mute")}
    switch = _entity(settings, "switch", "mute", command_topic=settings.topic("mute/set"), **state)
    sensor = _entity(settings, "binary_sensor", "mute", **state)
    wanted, other = (switch, sensor) if settings.allow_commands else (sensor, switch)
    yield other[0], None
    yield wanted


def _entity(settings: Settings, component: str, key: str, **details: Any) -> Entity:
    node = re.sub(r"[^A-Za-z0-9_-]", "_", f"{settings.prefix}_{settings.name}")
    configuration = {
        **details,
        "unique_id": f"{node}_{key}",
        "availability_topic": settings.topic("state"),
        "device": {
            "identifiers": [node],
            "name": f"edged {settings.name}",
            "manufacturer": "edged",
            "sw_version": version("edged"),
        },
        "origin": {"name": "edged", "sw_version": version("edged")},
    }
    return f"{settings.discovery_prefix}/{component}/{node}/{key}/config", configuration
