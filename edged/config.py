"""The configuration: one TOML file, environment over it, flags over that.

Environment variables are `EDGED_SECTION_KEY`, e.g. `EDGED_SERVER_PORT=8080`. Unknown keys are
errors that name file, line and key; those of older versions (`renames.py`) are warned of.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from edged import paths
from edged.errors import ConfigurationError
from edged.log import fields, get_logger
from edged.renames import bring_up, has, sentence

log = get_logger(__name__)

FILE = "edged.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineSection(_Section):
    """What recognises."""

    model: str = Field("auto", description="auto, or the name of a model (`edged models list`)")
    precision: str = Field(
        "auto",
        description="auto, or one of fp32, bf16, fp16, int8 and int4 "
        "(`edged probe` tells which work)",
    )
    provider: str = Field(
        "auto",
        description="auto, or an execution provider (`edged plugins`), in another Python as "
        "PROVIDER@WORKER",
    )
    device: str = Field("auto", description="auto, or a device of the provider")
    fallback: Literal["fail", "degrade", "allow"] = Field(
        "degrade",
        description="When what is asked for cannot run: fail serves nothing else, degrade serves "
        "something lighter and says so everywhere, allow serves it and only logs",
    )
    policy: str = Field("adaptive", description="What chooses among the rungs that may serve")
    expected_streams: int = Field(
        1, ge=1, description="Utterances at once that a rung should keep up with"
    )
    decode_seconds: float = Field(
        0.35, gt=0, description="How long the recognition of a final may take"
    )
    detector: str = Field("silero", description="Voice detector")


class MicrophoneSection(_Section):
    """What is listened to."""

    enabled: bool = Field(True, description="Whether to listen at all; clients can stream anyway")
    source: str = Field(
        "auto",
        description="auto, a microphone's identity (`edged devices`), program:COMMAND, "
        "file:PATH (at the pace of time), fast:PATH, or SCHEME:ADDRESS of a plugin's",
    )
    channel: int | None = Field(None, ge=0, description="Take this channel, from 0; else mix all")
    muted: bool = Field(
        False, description="Start muted, whatever was ordered before; else as it was left"
    )
    mute_file: str | None = Field(
        None,
        description="Mute switch: a file that holds 1 while nobody may listen and else 0, such as "
        "a GPIO's value. What cannot be read mutes",
    )
    mute_command: str | None = Field(
        None,
        description="Mute switch: a command that writes such a line whenever it changes, and does "
        "not end",
    )
    rate: int = Field(16000, description="Hertz, of a program's PCM")
    encoding: Literal["s16le", "f32le", "mulaw", "alaw"] = Field(
        "s16le", description="Encoding of a program's PCM"
    )
    channels: int = Field(1, description="Channels of a program's PCM")


class ServerSection(_Section):
    """Who may connect, and how much they may ask for."""

    host: str = Field("127.0.0.1", description="Address to listen on; off loopback needs a token")
    port: int = Field(7333, ge=0, le=65535, description="TCP port; 0 takes any free one")
    unix_socket: str = Field(
        "auto", description="Path of the Unix socket; auto: runtime directory; empty: none"
    )
    token_file: Path | None = Field(None, description="File whose first line is the bearer token")
    allowed_hosts: list[str] = Field(
        [], description="Names that requests may call this machine by, beside loopback's"
    )
    allowed_origins: list[str] = Field(
        [], description="Web origins whose pages may connect, beside our own"
    )
    max_clients: int = Field(64, ge=1, description="WebSocket and event-stream clients at once")
    max_streams: int = Field(
        64,
        ge=1,
        description="Client audio streams at once, even where the engine could serve more in time",
    )
    max_message_bytes: int = Field(16 << 20, ge=1024, description="Largest WebSocket message")
    max_body_bytes: int = Field(100 << 20, ge=1024, description="Largest request body")
    max_audio_seconds: float = Field(4 * 3600, gt=0, description="Longest audio of one request")
    idle_seconds: float = Field(
        900, gt=0, description="Longest silence of a Realtime client before it is let go"
    )
    client_queue: int = Field(256, ge=8, description="Events a client may be behind")


class VoskSection(_Section):
    """Clients of Vosk's WebSocket server (docs/protocols.md)."""

    enabled: bool = Field(False, description="Whether to serve them, on server.host")
    port: int = Field(2700, ge=0, le=65535, description="TCP port; 0 takes any free one")


class SherpaSection(_Section):
    """Clients of sherpa-onnx's streaming WebSocket server (docs/protocols.md)."""

    enabled: bool = Field(False, description="Whether to serve them, on server.host")
    port: int = Field(6006, ge=0, le=65535, description="TCP port; 0 takes any free one")
    sample_rate: int = Field(
        16000, ge=8000, le=192_000, description="Hertz, of the samples that they send"
    )


class WyomingSection(_Section):
    """Clients that speak Wyoming, Home Assistant for one (docs/protocols.md)."""

    enabled: bool = Field(False, description="Whether to serve them, on server.host")
    port: int = Field(10300, ge=0, le=65535, description="TCP port; 0 takes any free one")
    unix_socket: str = Field("", description="Path of a Unix socket beside it; empty: none")
    open_to_network: bool = Field(
        False,
        description="Wyoming knows no passwords: off loopback, whoever reaches the port may use it",
    )
    zeroconf: bool = Field(
        False, description="Announce it on the network as _wyoming._tcp, where it can be reached"
    )
    microphone: bool = Field(
        False, description="Send the microphone's audio to clients that connect and say nothing"
    )


class TranscriptsSection(_Section):
    """What is remembered."""

    enabled: bool = Field(True, description="Keep transcripts in the state directory")
    path: Path | None = Field(None, description="The SQLite file, elsewhere")
    max_days: float = Field(90.0, ge=0, description="What is older is deleted; 0: nothing is")
    max_bytes: int = Field(
        256 << 20, ge=0, description="Its size; the oldest makes room. 0: any size"
    )


class RecorderSection(_Section):
    """The flight recorder: audio and every decision, in a ring on disk (`edged replay`)."""

    enabled: bool = Field(
        False,
        description="Record; nothing of a muted microphone. What is there stays when it is "
        "switched off",
    )
    path: Path | None = Field(None, description="The folder, elsewhere than in the state directory")
    max_bytes: int = Field(1 << 30, ge=1 << 20, description="Its size; the oldest makes room")
    max_hours: float = Field(24.0, gt=0, description="What is older is deleted")
    clients: bool = Field(False, description="Record the streams that clients send as well")


class WorkerSection(_Section):
    """A Python beside edged's own."""

    python: Path = Field(description="Its interpreter: /path/to/venv/bin/python")


class TraceSection(_Section):
    """What every process does and when, texts included, to be looked at by `edged trace FOLDER`."""

    folder: Path | None = Field(
        None, description="Write it there, some MB a minute, until the daemon ends; empty: nothing"
    )
    operators: float = Field(
        10.0,
        ge=0,
        description="For so many seconds of a stream, and until there is silence, have the runtime "
        "time its operators, too: slower by that, and some 20 MB a second; 0: not",
    )


class LogSection(_Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level")
    texts: bool = Field(False, description="Log what was said, too: a line for each final")


class Configuration(BaseSettings):
    """All of it."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="EDGED_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
    )

    engine: EngineSection = EngineSection()
    microphone: MicrophoneSection = MicrophoneSection()
    server: ServerSection = ServerSection()
    vosk: VoskSection = VoskSection()
    sherpa: SherpaSection = SherpaSection()
    wyoming: WyomingSection = WyomingSection()
    transcripts: TranscriptsSection = TranscriptsSection()
    recorder: RecorderSection = RecorderSection()
    log: LogSection = LogSection()
    trace: TraceSection = TraceSection()
    providers: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Options for a provider, handed over as they stand"
    )
    sinks: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Options for a transcript sink, likewise; `allow_commands = true` lets it mute "
        "the microphone. `[sinks.mqtt]`: docs/protocols.md",
    )
    workers: dict[str, WorkerSection] = Field(
        default_factory=dict,
        description="Pythons for runtimes that need one of their own, instead of what "
        "`edged workers create` makes: a provider is called PROVIDER@NAME there",
    )

    def provider_options(self) -> dict[str, dict[str, Any]]:
        """`[providers.NAME]`, each with the Python of `[workers.NAME]` where there is one."""
        pythons = {name: {"python": str(own.python)} for name, own in self.workers.items()}
        names = [*self.providers, *(name for name in pythons if name not in self.providers)]
        return {name: {**self.providers.get(name, {}), **pythons.get(name, {})} for name in names}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # `load` has read the environment


def default_file() -> Path | None:
    """The first configuration file there is: the user's or service's, then the machine's."""
    for folder in (paths.configuration_directory(), Path("/etc/edged")):
        if (folder / FILE).is_file():
            return folder / FILE
    return None


def load(file: Path | None, flags: Mapping[str, Mapping[str, Any]] | None = None) -> Configuration:
    """Read the configuration. Raises ConfigurationError naming where the fault is."""
    text = _read(file) if file else ""
    try:
        written = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: {error}") from error
    return _Loader(file, text, written, flags or {}).load()


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is no text in UTF-8") from error


class _Loader:
    """Lays the three sources over each other and knows which one a fault came from."""

    def __init__(
        self,
        file: Path | None,
        text: str,
        written: Mapping[str, Any],
        flags: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._file = file
        self._lines = text.splitlines()
        self._written = written
        self._flags = flags
        self._environment = _read_environment()

    def load(self) -> Configuration:
        merged: dict[str, Any] = {}
        for source in (self._written, self._environment, self._flags):
            present, old = bring_up(source)
            _lay_over(merged, present)
            for name in old:
                _warn(f"{self._place(name.split('.'))}: {sentence(name)}")
        try:
            return Configuration.model_validate(merged)
        except ValidationError as error:
            raise ConfigurationError(self._explain(error)) from error

    def _explain(self, error: ValidationError) -> str:
        fault = error.errors()[0]
        keys = [str(part) for part in fault["loc"]]
        what = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
        return f"{self._place(keys)}: {'.'.join(keys)}: {what}"

    def _place(self, keys: list[str]) -> str:
        if has(self._flags, keys):
            return "command line"
        if has(self._environment, keys):
            return f"environment variable EDGED_{'_'.join(keys[:2]).upper()}"
        return f"{self._file}, line {self._line(keys)}" if self._file else "configuration"

    def _line(self, keys: list[str]) -> int:
        """The line of a key, found by its table's heading."""
        table, key = keys[:-1], keys[-1]
        heading = re.compile(rf"\s*\[+\s*{re.escape('.'.join(table))}\s*\]+")
        entry = re.compile(rf"\s*(\[+\s*)?\"?{re.escape(key)}\"?\s*[=\].]")
        inside = not table
        for number, line in enumerate(self._lines, 1):
            if table and line.lstrip().startswith("["):
                inside = bool(heading.match(line))
            elif inside and entry.match(line):
                return number
        return next((n for n, line in enumerate(self._lines, 1) if key in line), 1)


def _read_environment() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Configuration)()
    except SettingsError as error:
        raise ConfigurationError(
            f"environment: {error}; lists and tables are written as JSON"
        ) from error


def _lay_over(merged: dict[str, Any], source: Mapping[str, Any]) -> None:
    for key, value in source.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            _lay_over(merged[key], value)
        else:
            merged[key] = dict(value) if isinstance(value, Mapping) else value


@cache
def _warn(warning: str) -> None:
    """Once, however often it is read."""
    log.warning("%s", warning, extra=fields("configuration_old"))


def read_token(section: ServerSection) -> str | None:
    """The bearer token, if one is configured. Raises ConfigurationError."""
    if section.token_file is None:
        return None
    lines = _read(section.token_file).split()
    if not lines:
        raise ConfigurationError(f"{section.token_file} holds no token")
    if section.token_file.stat().st_mode & 0o004:
        raise ConfigurationError(
            f"{section.token_file} can be read by everybody. Run: chmod o= {section.token_file}"
        )
    return lines[0]


def check_exposure(configuration: Configuration, token: str | None) -> None:
    """Refuse to listen off loopback without a token. Raises ConfigurationError."""
    host, wyoming = configuration.server.host, configuration.wyoming
    if is_loopback(host):
        return
    if token is None:
        raise ConfigurationError(
            f"server.host = {host} can be reached from other machines: set "
            "server.token_file to a file with a secret, or listen on 127.0.0.1"
        )
    if wyoming.enabled and not wyoming.open_to_network:
        raise ConfigurationError(
            f"server.host = {host} can be reached from other machines, and Wyoming knows no "
            "passwords: set wyoming.open_to_network = true if whoever reaches port "
            f"{wyoming.port} may use it, or wyoming.enabled = false"
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
