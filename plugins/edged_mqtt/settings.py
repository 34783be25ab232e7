"""`[sinks.mqtt]` of the configuration."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edged.errors import ConfigurationError

PORT, TLS_PORT = 1883, 8883

Topic = Annotated[str, StringConstraints(pattern=r"^[^+#\x00$/][^+#\x00]*$", max_length=200)]
"""The beginning of a topic: no wildcards"""
Level = Annotated[str, StringConstraints(pattern=r"^[^+#\x00$/][^+#\x00/]*$", max_length=100)]
"""One level of a topic"""


def _host_name() -> str:
    return re.sub(r"[^\w-]", "_", socket.gethostname().partition(".")[0]) or "edged"


class Settings(BaseModel):
    """What is published, where, and as whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(min_length=1, description="The broker")
    port: int | None = Field(None, ge=1, le=65535, description="1883; with TLS 8883")
    username: str | None = Field(None, description="As whom")
    password_file: Path | None = Field(None, description="File whose first line is the password")
    tls: bool = Field(False, description="Encrypt, and check the broker's certificate")
    ca_file: Path | None = Field(None, description="Who may have signed it, beside the system's")
    certificate_file: Path | None = Field(None, description="Our own certificate")
    key_file: Path | None = Field(None, description="Its key")
    prefix: Topic = Field("edged", description="Where our topics begin")
    name: Level = Field(
        default_factory=_host_name, description="This box, in topics; the host's name"
    )
    partials: bool = Field(False, description="Publish partials too")
    clients: bool = Field(False, description="Publish what clients' streams said too")
    hermes: bool = Field(True, description="Publish hermes/asr/textCaptured and hermes/error/asr")
    site: str = Field("default", description="Hermes' siteId")
    discovery: bool = Field(True, description="Tell Home Assistant of our entities")
    discovery_prefix: Topic = Field("homeassistant", description="Where it looks for them")
    allow_commands: bool = Field(False, description="Whoever may publish may mute and unmute")

    @property
    def broker(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or (TLS_PORT if self.tls else PORT)

    def topic(self, name: str) -> str:
        """One of our topics."""
        return f"{self.prefix}/{self.name}/{name}"


def read(written: Mapping[str, Any]) -> Settings:
    """The settings as written. Raises ConfigurationError naming the key."""
    try:
        return Settings.model_validate(dict(written))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        what = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
        raise ConfigurationError(f"sinks.mqtt.{key}: {what}") from error


def read_password(path: Path | None) -> str | None:
    """The first line of a file that not everybody can read. Raises ConfigurationError."""
    if path is None:
        return None
    try:
        lines = path.read_text("utf-8").splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"sinks.mqtt.password_file: {path}: {error}") from error
    if not lines or not lines[0]:
        raise ConfigurationError(f"sinks.mqtt.password_file: {path} holds no password")
    if mode & 0o004:
        raise ConfigurationError(f"{path} can be read by everybody. Run: chmod o= {path}")
    return lines[0]
