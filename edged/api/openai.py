"""`POST /v1/audio/transcriptions`, in OpenAI's form."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from edged.api import schemas, turns
from edged.api.intake import place, require_place
from edged.api.languages import NAMES, check_language, model_language
from edged.api.logprobs import logprobs
from edged.api.problems import FieldError, OpenAIError, openai_error
from edged.audio.files import open_recording
from edged.daemon import Daemon
from edged.engine.transcribe import transcribe
from edged.errors import EdgedError
from edged.messages import Event, Final, Turns
from edged.subtitles import plain, srt, vtt

router = APIRouter(prefix="/v1/audio", tags=["openai"])

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": OpenAIError} for status in (400, 401, 403, 413, 422, 503)
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The text, in the form asked for",
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/Transcription"},
                        {"$ref": "#/components/schemas/VerboseTranscription"},
                    ]
                },
                "example": {
                    "text": "It was the best of times.",
                    "usage": {"type": "duration", "seconds": 2},
                },
            },
            "text/plain": {"example": "It was the best of times.\n"},
            "text/event-stream": {
                "example": 'data: {"type":"transcript.text.delta","delta":"It was"}\n\n'
            },
        },
    }
}


def _chunking(
    chunking_strategy: Annotated[
        str | None, Form(description='auto, or {"type":"server_vad",...} as JSON')
    ] = None,
    kind: Annotated[
        Literal["server_vad"] | None,
        Form(alias="chunking_strategy[type]", description="The same, field by field"),
    ] = None,
    prefix_padding_ms: Annotated[
        int | None, Form(alias="chunking_strategy[prefix_padding_ms]")
    ] = None,
    silence_duration_ms: Annotated[
        int | None, Form(alias="chunking_strategy[silence_duration_ms]")
    ] = None,
    threshold: Annotated[float | None, Form(alias="chunking_strategy[threshold]")] = None,
) -> Turns | None:
    """Where the recording is cut into utterances; None for the engine's own rules."""
    if kind:
        wanted: Any = {"type": kind, "prefix_padding_ms": prefix_padding_ms}
        wanted |= {"silence_duration_ms": silence_duration_ms, "threshold": threshold}
    elif not chunking_strategy or chunking_strategy == "auto":
        return None
    else:
        wanted = chunking_strategy
    try:
        if isinstance(wanted, str):
            wanted = msgspec.json.decode(wanted)
        return turns.turns(msgspec.convert(wanted, turns.ServerVad))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise FieldError(
            f'chunking_strategy is auto or {{"type": "server_vad"}} with its numbers: {error}',
            code="invalid_request",
            param="chunking_strategy",
        ) from error


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the answer is to hold."""

    format: ResponseFormat
    words: bool
    segments: bool
    logprobs: bool
    stream: bool
    warnings: list[str]
    language: str
    turns: Turns | None

    @property
    def tokens(self) -> bool:
        return self.logprobs or (self.format == "verbose_json" and self.segments)


@router.post("/transcriptions", responses=_ERRORS | _ANSWERS, response_model=None)
async def create_transcription(
    request: Request,
    file: Annotated[
        UploadFile, File(description="WAV, FLAC, MP3, Ogg; with ffmpeg also M4A, WebM and more")
    ],
    chunking: Annotated[Turns | None, Depends(_chunking)],
    model: Annotated[str, Form(description="Any name: the engine's model is used")] = "",
    response_format: Annotated[
        ResponseFormat, Form(description="diarized_json is refused")
    ] = "json",
    language: Annotated[str | None, Form(description="ISO 639-1; must be the model's")] = None,
    languages: Annotated[
        list[str], Form(alias="languages[]", description="One must be the model's")
    ] = [],  # noqa: B006  FastAPI copies it
    stream: Annotated[bool, Form(description="Send the text as it is recognised")] = False,
    prompt: Annotated[str | None, Form(description="Not used: the model takes no hints")] = None,
    keywords: Annotated[
        list[str], Form(alias="keywords[]", description="Not used: the model takes no hints")
    ] = [],  # noqa: B006
    temperature: Annotated[
        float, Form(ge=0, le=1, description="Not used: decoding is greedy")
    ] = 0.0,
    known_speaker_names: Annotated[
        list[str], Form(alias="known_speaker_names[]", description="Not used")
    ] = [],  # noqa: B006
    fallback: Annotated[
        Literal["fail"] | None, Form(description="fail: nothing less than what is configured")
    ] = None,
    include: Annotated[
        list[Literal["logprobs"]], Form(alias="include[]", description="For json")
    ] = [],  # noqa: B006
    timestamp_granularities: Annotated[
        list[Literal["word", "segment"]],
        Form(alias="timestamp_granularities[]", description="For verbose_json; else segment"),
    ] = [],  # noqa: B006
) -> Response:
    """Recognise a whole file. Utterances become segments."""
    del model
    daemon: Daemon = request.app.state.daemon
    spoken = model_language(daemon)
    check_language([language] if language else languages, spoken)
    _check_form(response_format, stream, include, timestamp_granularities)
    unused = {"prompt": prompt, "keywords": keywords, "known_speaker_names": known_speaker_names}
    wishes = _Wishes(
        format=response_format,
        words="word" in timestamp_granularities,
        segments="segment" in timestamp_granularities or not timestamp_granularities,
        logprobs="logprobs" in include,
        stream=stream,
        warnings=_warnings({**unused, "temperature": temperature}),
        language=spoken,
        turns=chunking,
    )
    check_engine(daemon, strict=fallback == "fail")
    blocks = await asyncio.to_thread(_open, file)
    job = _Job(daemon, blocks, wishes)
    if stream:
        return StreamingResponse(job.stream(), media_type="text/event-stream")
    return _answer(job.finals, await job.run(), wishes)


def _check_form(
    response_format: str, stream: bool, include: Sequence[str], granularities: Sequence[str]
) -> None:
    """Raise FieldError for fields that do not go together."""
    if response_format == "diarized_json":
        raise FieldError(
            "edged does not tell speakers apart: response_format diarized_json cannot be had. "
            "Ask for json or verbose_json",
            code="diarization_not_supported",
            param="response_format",
        )
    if stream and response_format not in {"json", "text"}:
        raise FieldError(
            f"A stream has a form of its own: leave response_format {response_format} or stream",
            code="invalid_request",
            param="stream",
        )
    if include and response_format != "json":
        raise FieldError(
            "include[]=logprobs needs response_format=json", code="invalid_request", param="include"
        )
    if granularities and response_format != "verbose_json":
        raise FieldError(
            "timestamp_granularities needs response_format=verbose_json",
            code="invalid_request",
            param="timestamp_granularities",
        )


def _warnings(unused: dict[str, Any]) -> list[str]:
    """A sentence for each field that was given and changes nothing."""
    reasons = {
        "temperature": "decoding is greedy",
        "known_speaker_names": "speakers are not told apart",
    }
    return [
        f"{name} was not used: {reasons.get(name, 'the model takes no hints')}"
        for name, value in unused.items()
        if value
    ]


def check_engine(daemon: Daemon, strict: bool) -> None:
    """Raise EdgedError while nothing can be recognised, or not as it is wished."""
    if not daemon.supervisor.ready and daemon.supervisor.problem:
        raise EdgedError(daemon.supervisor.problem.message, code="engine_not_ready")
    if strict and (refusal := daemon.refusal):
        raise refusal
    require_place(daemon)


def _open(file: UploadFile) -> Iterator[np.ndarray]:
    """The blocks of an upload. Readers need a name, so it lies in a file until it is open."""
    name = Path(file.filename or "").name or "The file"
    with tempfile.NamedTemporaryFile(prefix="edged-") as target:
        shutil.copyfileobj(file.file, target, 1 << 20)
        target.flush()
        return open_recording(target.name, name)


class _Job:
    """One file on its way."""

    def __init__(self, daemon: Daemon, blocks: Iterator[np.ndarray], wishes: _Wishes) -> None:
        self._daemon = daemon
        self._blocks = blocks
        self._wishes = wishes
        self.finals: list[Final] = []
        self._news: asyncio.Queue[Final | None] = asyncio.Queue()

    def _take(self, event: Event) -> None:
        if isinstance(event, Final) and event.text:
            self.finals.append(event)
            self._news.put_nowait(event)

    async def run(self) -> float:
        """Recognise all of it; its length in seconds."""
        try:
            with place(self._daemon):
                return await transcribe(
                    self._daemon.supervisor,
                    self._blocks,
                    self._take,
                    words=self._wishes.words,
                    tokens=self._wishes.tokens,
                    turns=self._wishes.turns,
                    longest_seconds=self._daemon.configuration.server.max_audio_seconds,
                )
        finally:
            self._news.put_nowait(None)

    async def stream(self) -> AsyncIterator[bytes]:
        """OpenAI's server-sent events: a delta an utterance, then the whole."""
        running = asyncio.create_task(self.run())
        try:
            separator = ""
            while final := await self._news.get():
                yield _sse(self._delta(final, separator))
                separator = " "
            duration = await running
        except EdgedError as error:
            yield _sse({"error": openai_error(error)})
            return
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, EdgedError):
                await running
        yield _sse({"type": "transcript.text.done", **_json(self.finals, duration, self._wishes)})
        yield b"data: [DONE]\n\n"

    def _delta(self, final: Final, separator: str) -> dict[str, Any]:
        delta: dict[str, Any] = {"type": "transcript.text.delta"}
        delta["delta"] = separator + final.text
        if self._wishes.logprobs:
            delta["logprobs"] = logprobs([final], separator)
        return delta


def _sse(content: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


def _answer(finals: list[Final], duration: float, wishes: _Wishes) -> Response:
    match wishes.format:
        case "text":
            return PlainTextResponse(plain(finals) + "\n")
        case "srt":
            return PlainTextResponse(srt(finals), media_type="application/x-subrip")
        case "vtt":
            return PlainTextResponse(vtt(finals), media_type="text/vtt")
        case "verbose_json":
            return JSONResponse(_verbose(finals, duration, wishes))
        case _:
            return JSONResponse(_json(finals, duration, wishes))


def _json(finals: list[Final], duration: float, wishes: _Wishes) -> dict[str, Any]:
    answer: dict[str, Any] = {"text": plain(finals)}
    if wishes.logprobs:
        answer["logprobs"] = logprobs(finals)
    if wishes.warnings:
        answer["warnings"] = wishes.warnings
    return {**answer, "usage": {"type": "duration", "seconds": math.ceil(duration)}}


def _verbose(finals: list[Final], duration: float, wishes: _Wishes) -> dict[str, Any]:
    answer = schemas.VerboseTranscription(
        language=NAMES.get(wishes.language, wishes.language),
        duration=round(duration, 3),
        text=plain(finals),
        warnings=wishes.warnings or None,
        usage=schemas.Usage(seconds=math.ceil(duration)),
    )
    if wishes.segments:
        answer.segments = [_segment(number, final) for number, final in enumerate(finals)]
    if wishes.words:
        answer.words = [
            schemas.VerboseWord(word=word.word, start=word.start, end=word.end)
            for final in finals
            for word in final.words or []
        ]
    return answer.model_dump(exclude_none=True)


def _segment(number: int, final: Final) -> schemas.Segment:
    text = final.text.encode()
    return schemas.Segment(
        id=number,
        seek=int(final.start * 100),
        start=final.start,
        end=final.end,
        text=final.text,
        tokens=[token.number for token in final.tokens or ()],
        avg_logprob=round(math.log(max(final.confidence, 1e-6)), 4),
        compression_ratio=round(len(text) / len(zlib.compress(text)), 3),
    )
