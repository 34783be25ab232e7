"""Every message that crosses a process or a socket, and its one JSON codec.

Between processes positions count samples of a stream; in the events for clients times are seconds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct


class Message(Struct, tag_field="type", frozen=True, omit_defaults=False):
    """A message is told from the others by its `type`."""


# -- what the engine is -------------------------------------------------------------------------


class Rung(Struct, frozen=True):
    """One way to recognise: a model, by a provider, on a device, in a precision."""

    model: str
    provider: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f"{self.model} {self.precision} on {self.provider} {self.device}"

    @property
    def device_kind(self) -> str:
        """Its device without the number: gpu for gpu.1"""
        return self.device.partition(".")[0]

    @property
    def accelerator(self) -> str:
        """What hardware is asked for, as `hardware.accelerators` names it: "openvino gpu" """
        provider, _, _worker = self.provider.partition("@")
        return f"{provider} {self.device_kind}"


class EngineState(Struct, frozen=True):
    """What was asked for, what runs, and why they differ."""

    requested: Rung | None
    effective: Rung | None
    reason: str | None = None
    pace: float = 1.0
    """Partials come so many times less often than usual"""


# -- daemon to worker ---------------------------------------------------------------------------


class Turns(Struct, frozen=True):
    """When the utterances of a stream begin and end, as far as its client says so; in samples."""

    onset: float | None = None
    """Probability of speech from which one may begin"""
    preroll: int | None = None
    """Audio before its onset that belongs to it"""
    early: int | None = None
    """Silence that ends one whose text reads as finished"""
    late: int | None = None
    """Silence that ends any"""


class WorkerOptions(Struct, frozen=True):
    """What the daemon tells a worker beside its rung."""

    detector: str = "silero"
    encoder_threads: int = 2
    decoder_threads: int = 1
    lanes: int = 2
    """Utterances that may be recognised at the same time, where the runtime can"""
    processors: list[int] = []
    """Numbers of those it may use; all, if none"""
    partial_interval: float = 0.3
    """Seconds of new audio between partials"""
    extra: dict[str, dict[str, Any]] = {}
    """`[providers.NAME]` of the configuration, by name"""
    trace: str = ""
    """Folder to note in what is done when; empty: nothing is noted"""
    profile: float = 0.0
    """Seconds of a stream for which the runtime is to time its operators in such a trace"""

    @property
    def profiles(self) -> Path | None:
        """Folder for a runtime's own profile, if there is to be one."""
        return Path(self.trace) if self.trace and self.profile else None

    def threads(self, parallel: bool) -> int:
        """Threads for a graph whose operators are worth sharing, or for one whose are not."""
        wanted = self.encoder_threads if parallel else self.decoder_threads
        return min(wanted, os.cpu_count() or 1)


class Load(Message, tag="load", frozen=True):
    """The first message: what the worker is to run."""

    rung: Rung
    folder: str
    """Of the rung's model"""
    options: WorkerOptions


class Open(Message, tag="open", frozen=True):
    """Begin a stream. Its ring's descriptor comes with this message."""

    stream: int
    position: int
    """Where to begin, in samples"""
    floor: int
    """The first sample that the next utterance may use"""
    partials: bool = True
    words: bool = False
    live: bool = False
    """Its audio comes at the pace of time, so that falling behind is a fault"""
    tokens: bool = False
    turns: Turns | None = None
    """None for the engine's own rules"""
    trace: bool = False
    """Whether the worker reports what led to its decisions too"""


class Audio(Message, tag="audio", frozen=True):
    """The ring of a stream is filled up to here."""

    stream: int
    written: int


class Mark(Message, tag="mark", frozen=True):
    """Finish the open utterance at `start` and go on at `end`: a flush, or a gap in the audio."""

    stream: int
    start: int
    end: int


class Close(Message, tag="close", frozen=True):
    """Forget the stream at once."""

    stream: int


class Ping(Message, tag="ping", frozen=True):
    """Answer when you get to it."""

    number: int


class Pace(Message, tag="pace", frozen=True):
    """How to go about it."""

    factor: float
    """Partials are made so many times less often than usual"""
    lanes: int = 0
    """Utterances that may be recognised at the same time; 0: as many as it can"""


class Canary(Message, tag="canary", frozen=True):
    """Recognise the check clip when you get to it, to show that you still can."""


Command = Load | Open | Audio | Mark | Close | Ping | Pace | Canary


# -- worker to daemon ---------------------------------------------------------------------------


class Loading(Message, tag="loading", frozen=True):
    """The worker is alive and at this stage of its start."""

    stage: str


CHECK_CLIP_SECONDS = 6.0
USUAL_NEWS = 2560
"""Samples of an open utterance that a worker is told of together, unless it asks to know sooner: an
utterance's tail is not shorter, and to wake a process costs more than to judge a window"""
"""Length of the clip that every rung is checked with"""


class Ready(Message, tag="ready", frozen=True):
    """The rung is loaded and wrote the right words for the check clip."""

    runtime: str
    """The runtime's name and version"""
    device: str
    """Where the provider says it runs in fact"""
    load_seconds: float
    check_seconds: float
    """How long the check clip took, warm"""
    model: str = ""
    """Which files it has loaded: a short digest"""
    lanes: int = 1
    """Utterances that it can recognise at the same time"""


class Refused(Message, tag="refused", frozen=True):
    """The rung cannot be run; the worker ends."""

    code: str
    message: str
    path: str | None = None


class Failed(Message, tag="failed", frozen=True):
    """The rung computes nonsense or has lost its device; the worker ends."""

    code: str
    message: str


class Began(Message, tag="began", frozen=True):
    """Somebody speaks."""

    stream: int
    start: int


class Heard(Message, tag="heard", frozen=True):
    """The open utterance so far."""

    stream: int
    start: int
    end: int
    text: str
    stable: int
    """Characters of `text` that will not change"""


class SpokenWord(Struct, frozen=True):
    """A word with its place in the stream, in samples."""

    text: str
    start: int
    end: int
    confidence: float


class SpokenToken(Struct, frozen=True):
    """A token of a final."""

    number: int
    """In the model's vocabulary"""
    data: bytes
    """Its share of the text, in UTF-8"""
    log_probability: float


class Said(Message, tag="said", frozen=True):
    """An utterance is over."""

    stream: int
    start: int
    end: int
    speech_end: int
    """After the last sample that was speech"""
    decided: int
    """The sample at which the endpoint was clear"""
    text: str
    confidence: float
    resume: int
    """Where a new worker would go on"""
    words: list[SpokenWord] = []
    degenerate: bool = False
    """The text goes in circles, or has no end"""
    tokens: list[SpokenToken] = []
    reason: str = ""
    """Why it ended: late or early (silence), limit (too long), mark (a flush or a gap)"""


class Passed(Message, tag="passed", frozen=True):
    """Everything before `position` is done with: silence, or a mark that was reached."""

    stream: int
    position: int
    floor: int


class Awaited(Message, tag="awaited", frozen=True):
    """Nothing is to be done with an open utterance before so many samples have come. Without a
    word the worker is told of each USUAL_NEWS."""

    stream: int
    written: int


class Working(Message, tag="working", frozen=True):
    """The worker is about to recognise these samples, which may be its end."""

    stream: int
    start: int
    end: int
    final: bool


class Worked(Message, tag="worked", frozen=True):
    """It has recognised them."""

    stream: int


class Judged(Message, tag="judged", frozen=True):
    """What the detector said of the windows from `start` to `end`. For a trace."""

    stream: int
    start: int
    end: int
    probabilities: list[float]


class Guessed(Message, tag="guessed", frozen=True):
    """What the recogniser wrote, before anything is done to it. For a trace."""

    stream: int
    start: int
    end: int
    text: str
    confidence: float
    finished: bool
    final: bool
    seconds: float = 0.0
    """How long it took"""


class Pong(Message, tag="pong", frozen=True):
    """The answer to a ping."""

    number: int
    lag: float
    """How far the live stream that is furthest behind is behind, in seconds"""
    busy: float = 0.0
    """Seconds that it has worked so far, whatever on"""
    detecting: float = 0.0
    """Seconds of them in the voice detector"""
    audio: float = 0.0
    """Seconds of audio that it has gone through"""
    partials: float = 0.0
    """Seconds of its work that went into partials, which could have been left out"""
    copied: int = 0
    """Samples that it had to copy before they could be recognised"""
    stuck: float = 0.0
    """Seconds that the oldest of what it recognises just now has taken so far"""


class Sang(Message, tag="sang", frozen=True):
    """The canary's clip was recognised, and right."""


Report = (
    Loading
    | Ready
    | Refused
    | Failed
    | Began
    | Heard
    | Said
    | Passed
    | Awaited
    | Working
    | Worked
    | Judged
    | Guessed
    | Pong
    | Sang
)


# -- about a worker, for a witness --------------------------------------------------------------


class Introduced(Message, tag="introduced", frozen=True):
    """A stream was opened on a worker."""

    opening: Open
    rung: Rung
    runtime: str
    """Its name and version"""
    model: str
    """Digest of the files it has loaded"""
    detector: str
    encoder_threads: int
    decoder_threads: int


# -- daemon and capture process -----------------------------------------------------------------


class Mute(Message, tag="mute", frozen=True):
    """Stop or resume writing to the ring."""

    muted: bool


class Attend(Message, tag="attend", frozen=True):
    """Tell of each block, or only of some together while it is quiet."""

    closely: bool


class Allow(Message, tag="allow", frozen=True):
    """A source that is not bound to real time may write up to here."""

    until: int


class Captured(Message, tag="captured", frozen=True):
    """The ring is filled up to `written`; its last sample was there at `clock`."""

    written: int
    clock: float
    """CLOCK_MONOTONIC, seconds"""


class Lost(Message, tag="lost", frozen=True):
    """Audio from `start` to `end` was not captured; the ring holds nothing there."""

    start: int
    end: int
    reason: str


class Beat(Message, tag="beat", frozen=True):
    """The capture process is alive, whatever its source does."""

    drift: float | None = None
    """How much faster than CLOCK_MONOTONIC the microphone's clock goes, in parts per million"""
    problem: str | None = None
    """What is wrong with what it delivers"""


class Muted(Message, tag="muted", frozen=True):
    """Whether anything is written, and who does not want it; from the moment of this message."""

    ordered: bool
    switched: bool
    """By the mute switch"""
    problem: str | None = None
    """Why the switch cannot be read, which mutes"""


class Opened(Message, tag="opened", frozen=True):
    """The source delivers."""

    identity: str
    label: str
    rate: int
    """Hertz, as the device delivers"""
    channels: int


class Waiting(Message, tag="waiting", frozen=True):
    """There is no such source now; the capture process looks out for it."""

    code: str
    message: str


class Gone(Message, tag="gone", frozen=True):
    """The source is lost, or cannot be opened; the capture process will end."""

    code: str
    message: str


class Ended(Message, tag="ended", frozen=True):
    """The source is at its end: a file was played, a program has left."""

    written: int


CaptureReport = Captured | Lost | Beat | Muted | Opened | Waiting | Gone | Ended
CaptureCommand = Mute | Attend | Allow


# -- events for clients -------------------------------------------------------------------------


class Hello(Message, tag="hello", frozen=True):
    """The first event of every connection."""

    stream: str
    model: str | None
    engine: EngineState
    rate: int
    muted: bool
    protocol: int = 1
    last: int | None = None
    """Number of the newest stored final: where one resumes who has yet seen none"""


class SpeechStarted(Message, tag="speech_started", frozen=True):
    """An utterance began."""

    utterance: int
    start: float


class Partial(Message, tag="partial", frozen=True):
    """The open utterance so far."""

    utterance: int
    text: str
    stable: str
    start: float
    end: float
    age: float


class Latency(Struct, frozen=True):
    """Where a final's time went, in seconds."""

    endpoint: float
    """Silence waited for"""
    decode: float
    """From then to sending"""
    total: float
    """From the last sample of speech to sending"""


class EventWord(Struct, frozen=True):
    """A word of a final, in seconds from the stream's start."""

    word: str
    start: float
    end: float
    confidence: float


class Final(Message, tag="final", frozen=True, omit_defaults=True):
    """The text of a whole utterance. Every utterance that began gets exactly one."""

    utterance: int
    text: str
    start: float
    end: float
    confidence: float
    engine: EngineState
    latency: Latency
    clock: float
    """CLOCK_MONOTONIC of `start`"""
    sample: int | None = None
    """`start` by the audio clock: samples of the stream, at 16 kHz"""
    time: float | None = None
    """Unix time of `start`, as the machine's clock stood when this was sent"""
    ros_time: float | None = None
    """`start` by the robot's own clock, if it has told how that stands: `POST /v1/clock`"""
    own_voice: str | None = None
    """Words that were taken out because the machine said them itself: `POST /v1/playback`"""
    id: int | None = None
    """Its number in the transcript store"""
    words: list[EventWord] | None = None
    tokens: list[SpokenToken] | None = None
    """For protocols that tell of tokens; never stored"""


class Gap(Message, tag="gap", frozen=True):
    """Audio that could not be captured, or was not wanted."""

    start: float
    end: float
    reason: Literal["device_lost", "overrun", "muted", "client_late", "skipped", "playback"]


class Playback(Message, tag="playback", frozen=True):
    """The machine itself speaks from here on, or is done: `POST /v1/playback`."""

    state: Literal["started", "stopped"]
    mode: Literal["gate", "words"]
    """gate: nothing is heard meanwhile. words: those of its text are taken out"""
    start: float
    end: float | None = None
    """Where audio is heard again as ever; none while that is not known"""
    reason: Literal["", "stopped", "replaced", "timed_out"] = ""
    """Why it is over"""


class Level(Message, tag="level", frozen=True):
    """How loud it was just now, for those who asked with `levels=1`; who is behind gets none."""

    rms: float
    """dB below full scale: 0 is the loudest, -100 silence"""
    peak: float
    """Of the loudest sample, likewise"""


class MicrophoneChanged(Message, tag="microphone", frozen=True):
    """The microphone was lost, found, muted or unmuted, or `auto` took another."""

    state: Literal["off", "waiting", "listening", "muted", "ended"]
    source: str
    """What is configured"""
    identity: str | None = None
    """What is heard, or was heard last"""
    label: str | None = None
    instead_of: str | None = None
    """Identity of the microphone that was heard until now, if this is another"""
    reason: str | None = None
    """Why it is not heard"""
    code: str | None = None
    """The reason in a word"""
    muted_by: list[Literal["order", "switch"]] = []
    """order: over the API, by a sink or the configuration; switch: the mute switch"""


class EngineChanged(Message, tag="engine", frozen=True):
    """The rung changed."""

    from_: Rung | None = msgspec.field(name="from")
    to: Rung | None = None
    reason: str = ""
    cause: str = ""
    """The reason in a word: asked, battery, behind, circles, configured, crashed, failed, heat,
    hung, load, pinned, recovered, refused, slow, unplugged"""


class Error(Message, tag="error", frozen=True):
    """Something went wrong on this connection."""

    code: str
    message: str
    fatal: bool = False


class Closed(Message, tag="closed", frozen=True):
    """The last event of a connection."""

    reason: str


Event = (
    Hello
    | SpeechStarted
    | Partial
    | Final
    | Gap
    | Playback
    | Level
    | MicrophoneChanged
    | EngineChanged
    | Error
    | Closed
)


# -- orders of clients --------------------------------------------------------------------------


class Flush(Message, tag="flush", frozen=True):
    """Finish the open utterance with what was heard so far."""


class Finish(Message, tag="close", frozen=True):
    """No more audio comes: finish, answer `closed`, and close."""


Order = Flush | Finish


encode = msgspec.json.Encoder().encode
decode_command = msgspec.json.Decoder(Command).decode
decode_report = msgspec.json.Decoder(Report).decode
decode_capture_report = msgspec.json.Decoder(CaptureReport).decode
decode_capture_command = msgspec.json.Decoder(CaptureCommand).decode
decode_event = msgspec.json.Decoder(Event).decode
decode_order = msgspec.json.Decoder(Order).decode
