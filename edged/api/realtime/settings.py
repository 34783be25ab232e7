"""What a Realtime session is set to, read and told in the GA and in the beta schema."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from edged.api.problems import FieldError
from edged.api.turns import Detection, ServerVad, described
from edged.audio.pcm import PcmFormat

LOGPROBS = "item.input_audio_transcription.logprobs"
PARTIALS = "edged.partials"
"""Not OpenAI's: the whole text so far, which may change"""

Rate = Annotated[int, Meta(ge=8000, le=48000)]


class Pcm(Struct, tag_field="type", tag="audio/pcm", frozen=True):
    """s16le, mono."""

    rate: Rate = 24000


class Mulaw(Struct, tag_field="type", tag="audio/pcmu", frozen=True):
    """G.711, 8 kHz."""


class Alaw(Struct, tag_field="type", tag="audio/pcma", frozen=True):
    """G.711, 8 kHz."""


Format = Pcm | Mulaw | Alaw
_BETA_FORMATS: dict[str, Format] = {"pcm16": Pcm(), "g711_ulaw": Mulaw(), "g711_alaw": Alaw()}
_BETA_NAMES = {Pcm: "pcm16", Mulaw: "g711_ulaw", Alaw: "g711_alaw"}


class _Transcription(Struct):
    language: str | None = None
    languages: list[str] | None = None


class _Input(Struct):
    format: Format | UnsetType = UNSET
    transcription: _Transcription | UnsetType | None = UNSET
    turn_detection: Detection | UnsetType | None = UNSET


class _Audio(Struct):
    input: _Input = msgspec.field(default_factory=_Input)


class _Session(Struct):
    """`session` of `session.update`."""

    type: Literal["transcription"] = "transcription"
    audio: _Audio = msgspec.field(default_factory=_Audio)
    include: list[str] | UnsetType | None = UNSET


class _RivaParameters(Struct):
    sample_rate_hz: Rate = 24000
    num_channels: Literal[1] = 1


class _BetaSession(Struct):
    """`session` of `transcription_session.update`; NVIDIA's clients tell the rate beside it."""

    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | UnsetType = UNSET
    input_audio_params: _RivaParameters | UnsetType = UNSET
    input_audio_transcription: _Transcription | UnsetType | None = UNSET
    turn_detection: Detection | UnsetType | None = UNSET
    include: list[str] | UnsetType | None = UNSET


_BETA_FIELDS = set(_BetaSession.__struct_fields__) - {"include"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force."""

    format: Format = field(default_factory=Pcm)
    detection: Detection | None = field(default_factory=ServerVad)
    """None: the client says where items end"""
    include: tuple[str, ...] = ()
    languages: tuple[str, ...] = field(default=(), compare=False)
    """What the client takes the speech for; any, if none"""

    @property
    def layout(self) -> PcmFormat:
        if isinstance(self.format, Pcm):
            return PcmFormat(self.format.rate)
        return PcmFormat(8000, "mulaw" if isinstance(self.format, Mulaw) else "alaw")

    def updated(self, session: object) -> Settings:
        """With what `session.update` names. Raises FieldError."""
        if isinstance(session, dict) and not _BETA_FIELDS.isdisjoint(session):
            return self.updated_beta(session)  # some clients mix the schemas
        update = _read(session, _Session)
        given = update.audio.input
        return self._changed(
            given.format, given.transcription, given.turn_detection, update.include
        )

    def updated_beta(self, session: object) -> Settings:
        """With what `transcription_session.update` names. Raises FieldError."""
        update = _read(session, _BetaSession)
        name, riva = update.input_audio_format, update.input_audio_params
        wanted: Format | UnsetType = UNSET if name is UNSET else _BETA_FORMATS[name]
        if riva is not UNSET and not isinstance(wanted, (Mulaw, Alaw)):
            wanted = Pcm(riva.sample_rate_hz)
        return self._changed(
            wanted, update.input_audio_transcription, update.turn_detection, update.include
        )

    def _changed(
        self,
        wanted: Format | UnsetType,
        transcription: _Transcription | UnsetType | None,
        detection: Detection | UnsetType | None,
        include: list[str] | UnsetType | None,
    ) -> Settings:
        """Only what is named changes."""
        known = (
            None if include is UNSET else [n for n in include or () if n in (LOGPROBS, PARTIALS)]
        )
        return replace(
            self,
            format=self.format if wanted is UNSET else wanted,
            detection=self.detection if detection is UNSET else detection,
            include=self.include if known is None else tuple(known),
            languages=self.languages if transcription is UNSET else _languages(transcription),
        )

    def described(self, model: str | None, language: str) -> dict[str, Any]:
        """What `session.updated` tells."""
        return {
            "type": "transcription",
            "audio": {
                "input": {
                    "format": msgspec.to_builtins(self.format),
                    "noise_reduction": None,
                    "transcription": {"model": model, "language": language, "prompt": ""},
                    "turn_detection": self._detection(),
                }
            },
            "include": list(self.include) or None,
        }

    def described_beta(self, model: str | None, language: str) -> dict[str, Any]:
        """What `transcription_session.updated` tells."""
        return {
            "input_audio_format": _BETA_NAMES[type(self.format)],
            "input_audio_params": {"sample_rate_hz": self.layout.rate, "num_channels": 1},
            "input_audio_noise_reduction": None,
            "input_audio_transcription": {"model": model, "language": language, "prompt": ""},
            "turn_detection": self._detection(),
            "include": list(self.include) or None,
        }

    def _detection(self) -> dict[str, Any] | None:
        return None if self.detection is None else described(self.detection)


def _languages(transcription: _Transcription | None) -> tuple[str, ...]:
    if transcription is None:
        return ()
    if transcription.language:
        return (transcription.language,)
    return tuple(transcription.languages or ())


_Kind = TypeVar("_Kind", _Session, _BetaSession)


def _read(session: object, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(session, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        place = re.search(r"`\$\.?([^`]*)`", str(error))
        param = f"session.{place[1]}".rstrip(".") if place else "session"
        message = str(error).partition(" - at ")[0]
        raise FieldError(f"{param}: {message}", code="invalid_value", param=param) from error
