"""What the REST API answers, as models, so that its reference is complete."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

RUNG: dict[str, Any] = {
    "model": "moonshine-tiny-en",
    "provider": "onnxruntime",
    "device": "cpu",
    "precision": "int8",
}


class Rung(BaseModel):
    """A model, by a provider, on a device, in a precision."""

    model_config = {"json_schema_extra": {"examples": [RUNG]}}

    model: str
    provider: str
    device: str
    precision: str


class Engine(BaseModel):
    """What was asked for, what runs, and why they differ."""

    requested: Rung | None
    effective: Rung | None = Field(description="null while no rung is ready")
    reason: str | None
    pace: float = Field(1.0, description="Partials come so many times less often than usual")


class Step(BaseModel):
    """One step of the ladder."""

    rung: Rung
    pace: float = Field(description="Partials come so many times less often than usual")
    serving: bool
    asked_for: bool = Field(description="Whether it is what the configuration asks for")
    reason: str | None = Field(description="Why it was left, or could not be taken, the last time")
    failures: int
    waits: float = Field(description="seconds until it may be tried again")


class Ladder(BaseModel):
    """What may serve, best first, and what does."""

    engine: Engine
    pinned: bool
    fallback: Literal["fail", "degrade", "allow"]
    moves: int = Field(description="changes of the engine since the start")
    workers: int = Field(description="workers started since the start")
    lag: float = Field(description="seconds that live audio is ahead of the engine")
    p95: float | None = Field(description="seconds from endpoint to text, of the finals of late")
    steps: list[Step]


class EngineOrder(BaseModel):
    """Move the engine, or hold it where it is."""

    model_config = {"json_schema_extra": {"examples": [{"action": "pin", "step": 1}]}}

    action: Literal["pin", "release", "demote", "promote"]
    step: int | None = Field(None, ge=0, description="for pin: number of the step, from 0")


class MicrophoneReport(BaseModel):
    """What the microphone does."""

    state: Literal["off", "waiting", "listening", "muted", "ended"]
    muted: bool
    muted_by: list[Literal["order", "switch"]] = Field(
        [], description="order: over the API, by a sink or the configuration; switch: mute switch"
    )
    source: str = Field(examples=["auto"])
    identity: str | None = Field(None, examples=["usb:046d:0825:A1B2C3,0"])
    label: str | None = Field(None, examples=["USB Audio: - (hw:1,0)"])
    rate: int | None = Field(None, description="hertz at which it is recorded", examples=[16000])
    channels: int | None = Field(None, description="that are recorded", examples=[1])
    drift: float | None = Field(
        None,
        description="parts per million that its clock is faster than CLOCK_MONOTONIC; null in the "
        "first minute",
        examples=[-12.5],
    )
    reason: str | None = Field(
        None, description="Why it is not heard, or what is wrong with what is heard"
    )
    code: str | None = Field(None, examples=["device_lost"])


class Reloaded(BaseModel):
    """The configuration was read again."""

    later: list[str] = Field(
        description="What changes only with the next start, a sentence each",
        examples=[["server.port changes with the next start, not now"]],
    )


class Health(BaseModel):
    """Whether edged is alive, and whether it can recognise."""

    live: bool
    ready: bool
    reasons: list[str] = Field(examples=[["microphone: There is no microphone"]])
    engine: Engine
    microphone: MicrophoneReport
    recording: bool = Field(description="Whether the flight recorder is on")
    uptime: float = Field(description="seconds", examples=[12.5])
    version: str
    pid: int = Field(description="the daemon's process")


class Word(BaseModel):
    """A word of a final."""

    word: str
    start: float = Field(description="seconds from the stream's start")
    end: float = Field(description="seconds from the stream's start")
    confidence: float


class Latency(BaseModel):
    """Where a final's time went."""

    endpoint: float = Field(description="seconds of silence waited for")
    decode: float = Field(description="seconds from then to sending")
    total: float = Field(description="seconds from the last sample of speech to sending")


class Final(BaseModel):
    """The final, as it went over the WebSocket."""

    type: Literal["final"] = "final"
    id: int | None = None
    utterance: int
    text: str
    start: float = Field(description="seconds from the stream's start")
    end: float
    confidence: float
    engine: Engine
    latency: Latency
    clock: float = Field(description="CLOCK_MONOTONIC of `start`, seconds")
    sample: int | None = Field(None, description="`start` in samples of the stream, at 16 kHz")
    time: float | None = Field(None, description="Unix time of `start`, when this was sent")
    ros_time: float | None = Field(None, description="`start` by the robot's clock")
    own_voice: str | None = Field(
        None, description="Words taken out because the machine said them itself"
    )
    words: list[Word] | None = None


class Transcript(BaseModel):
    """One stored final."""

    id: int = Field(examples=[1])
    time: float = Field(description="Unix time of the utterance's start", examples=[1795372800.0])
    stream: str = Field(examples=["microphone"])
    text: str = Field(examples=["It was the best of times."])
    event: Final


class TranscriptPage(BaseModel):
    """Stored finals."""

    transcripts: list[Transcript]
    cursor: str | None = Field(description="Give it as `cursor` to go on; null at the end")


class Stream(BaseModel):
    """Audio that is being recognised."""

    name: str = Field(examples=["stream-1"])
    protocol: Literal["microphone", "edged", "openai", "vosk", "sherpa", "wyoming"]
    age: float | None = Field(description="seconds since it began; null for a recording")
    audio: float = Field(description="seconds of audio so far")
    speaking: bool = Field(description="Whether an utterance has begun and its final is owed")


class Streams(BaseModel):
    """The streams that are open, oldest first."""

    streams: list[Stream]
    most: int = Field(description="Clients' streams that there may be at once")


class Span(BaseModel):
    """Latencies of a stretch of time."""

    age: float = Field(description="seconds from its middle to now")
    count: int
    p50: float = Field(description="seconds")
    p99: float = Field(description="seconds")


class Stage(BaseModel):
    """One stage on the way to a text, over time."""

    stage: Literal["first_partial", "endpoint", "decode", "total"]
    spans: list[Span] = Field(description="Oldest first; none where nothing was said")


class Latencies(BaseModel):
    """How long texts took of late; `/metrics` tells what each stage is."""

    seconds: float = Field(description="how far back")
    stages: list[Stage]


class Forgotten(BaseModel):
    """What a deletion did."""

    deleted: int = Field(description="finals")
    remains: list[str] = Field(
        description="Files that may hold it yet, to be deleted by hand if nothing is to be left: "
        "broken stores that were set aside, and what the flight recorder wrote since"
    )


class Device(BaseModel):
    """An audio input."""

    identity: str = Field(examples=["usb:046d:0825:A1B2C3,0"])
    label: str
    channels: int
    rate: int = Field(description="hertz")
    default: bool
    in_use: bool


class Devices(BaseModel):
    """The audio inputs there are."""

    devices: list[Device]
    error: str | None = Field(None, description="Why there are none, and what to do")


class Provider(BaseModel):
    """An execution provider."""

    name: str
    version: str | None
    devices: list[str]
    error: str | None


class Plugin(BaseModel):
    """An installed plugin."""

    name: str
    distribution: str
    version: str
    usable: bool
    reason: str | None = Field(description="Why it is not usable")


class Plugins(BaseModel):
    """Installed plugins, and what their providers find here."""

    plugins: list[Plugin]
    providers: list[Provider]


class OpenAIModel(BaseModel):
    """A model in OpenAI's list."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "edged"


class Model(BaseModel):
    """A model in the store."""

    name: str
    usable: bool
    reason: str | None
    precisions: list[str]
    language: str | None = None
    licence: str | None = None
    source: str | None = None
    in_use: bool = False


class Models(BaseModel):
    """The models of this machine, and in `data` the usable ones in OpenAI's form."""

    models: list[Model]
    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class MuteOrder(BaseModel):
    """Mute or unmute the microphone, where audio is captured."""

    model_config = {"json_schema_extra": {"examples": [{"muted": True}]}}

    muted: bool


class PlaybackOrder(BaseModel):
    """The machine itself speaks, or is done."""

    model_config = {
        "json_schema_extra": {"examples": [{"text": "I am on my way."}, {"state": "stopped"}]}
    }

    state: Literal["started", "stopped"] = "started"
    text: str | None = Field(
        None,
        max_length=5000,
        description="What it says: its words are taken out of what is recognised, and the rest "
        "stays. Without it, nothing is heard meanwhile",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        le=3600,
        description="Longest that it may last; then it is over by itself. 30, or what a long text "
        "takes",
    )
    tail: float = Field(
        0.3, ge=0, le=10, description="With stopped: seconds until its echo is gone"
    )
    stream: str = Field("microphone", description="Which stream hears it: `hello` names it")


class PlaybackReport(BaseModel):
    """What a stream makes of the machine's own voice."""

    stream: str
    mode: Literal["gate", "words"] | None = Field(
        description="gate: nothing is heard. words: its words are taken out. null: it is silent"
    )
    start: float | None = Field(description="seconds from the stream's start")
    end: float | None = Field(description="Where it is over at the latest, likewise")


class ClockOrder(BaseModel):
    """How the robot's own clock stands."""

    model_config = {"json_schema_extra": {"examples": [{"ros_offset": 1795368000.25}]}}

    ros_offset: float | None = Field(
        ge=-1e11,
        le=1e11,
        allow_inf_nan=False,
        description="ROS time less CLOCK_MONOTONIC of this machine, in seconds; null to forget it",
    )


class Clock(BaseModel):
    """This moment by every clock."""

    clock: float = Field(description="CLOCK_MONOTONIC, seconds")
    time: float = Field(description="Unix time")
    ros_offset: float | None
    ros_time: float | None


class Usage(BaseModel):
    """OpenAI's usage, by duration."""

    type: Literal["duration"] = "duration"
    seconds: int


class Logprob(BaseModel):
    """One token; the bytes of all in a row are the text."""

    token: str
    logprob: float
    bytes: list[int]


class Transcription(BaseModel):
    """OpenAI's answer to `response_format=json`."""

    text: str
    logprobs: list[Logprob] | None = Field(None, description="If `include[]` asks for them")
    warnings: list[str] | None = Field(None, description="Fields that could not be heeded")
    usage: Usage


class Segment(BaseModel):
    """One utterance in OpenAI's verbose answer."""

    id: int
    seek: int = 0
    start: float
    end: float
    text: str
    tokens: list[int] = []
    temperature: float = 0.0
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float = Field(0.0, description="Always 0: what is no speech is no segment")


class VerboseWord(BaseModel):
    """One word in OpenAI's verbose answer."""

    word: str
    start: float
    end: float


class VerboseTranscription(BaseModel):
    """OpenAI's answer to `response_format=verbose_json`."""

    task: Literal["transcribe"] = "transcribe"
    language: str = "english"
    duration: float
    text: str
    segments: list[Segment] | None = None
    words: list[VerboseWord] | None = None
    warnings: list[str] | None = Field(None, description="Fields that could not be heeded")
    usage: Usage


HARDWARE: dict[str, Any] = {
    "type": "object",
    "title": "Hardware",
    "required": ["age_seconds", "report"],
    "properties": {
        "age_seconds": {"type": "number", "description": "since the report was put together"},
        "report": {"$ref": "#/components/schemas/ProbeReport"},
    },
}

EXAMPLE_HEALTH: dict[str, Any] = {
    "live": True,
    "ready": True,
    "reasons": [],
    "engine": {"requested": RUNG, "effective": RUNG, "reason": None},
    "microphone": {"state": "listening", "muted": False, "source": "auto"},
    "recording": False,
    "uptime": 12.5,
    "version": "0.1.0",
    "pid": 4711,
}
