"""`POST /v1/audio/transcriptions`, in OpenAI's form."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from edged.api import schemas
from edged.api.intake import place, require_place
from edged.api.problems import OpenAIError
from edged.audio.files import open_recording
from edged.daemon import Daemon
from edged.engine.transcribe import transcribe
from edged.errors import EdgedError
from edged.messages import Event, Final
from edged.subtitles import plain, srt, vtt

router = APIRouter(prefix="/v1/audio", tags=["openai"])

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
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


@router.post("/transcriptions", responses=_ERRORS | _ANSWERS, response_model=None)
async def create_transcription(
    request: Request,
    file: Annotated[UploadFile, File(description="WAV, FLAC, MP3, Ogg; more with ffmpeg")],
    model: Annotated[str, Form(description="Any name: the engine's model is used")] = "",
    response_format: Annotated[ResponseFormat, Form()] = "json",
    language: Annotated[str | None, Form(description="ISO 639-1; must be the model's")] = None,
    stream: Annotated[bool, Form(description="Send the text as it is recognised")] = False,
    prompt: Annotated[str | None, Form(description="Ignored: the model takes none")] = None,
    temperature: Annotated[float, Form(description="Ignored: decoding is greedy")] = 0.0,
    fallback: Annotated[
        Literal["fail"] | None, Form(description="fail: nothing less than what is configured")
    ] = None,
    timestamp_granularities: Annotated[
        list[Literal["word", "segment"]],
        Form(alias="timestamp_granularities[]", description="For verbose_json"),
    ] = ["segment"],  # noqa: B006  FastAPI copies it
) -> Response:
    """Recognise a whole file. Utterances become segments."""
    del model, prompt, temperature
    daemon: Daemon = request.app.state.daemon
    _check_language(language)
    if not daemon.supervisor.ready and daemon.supervisor.problem:
        raise EdgedError(daemon.supervisor.problem.message, code="engine_not_ready")
    if fallback == "fail" and (refusal := daemon.refusal):
        raise refusal
    require_place(daemon)
    blocks = await asyncio.to_thread(_open, file)
    words = "word" in timestamp_granularities and response_format == "verbose_json"
    job = _Job(daemon, blocks, words)
    if stream:
        return StreamingResponse(job.stream(), media_type="text/event-stream")
    duration = await job.run()
    return _answer(job.finals, duration, response_format, timestamp_granularities)


def _check_language(language: str | None) -> None:
    if language and language.lower() not in {"en", "english"}:
        raise EdgedError(
            f"The model speaks English; language {language!r} needs another model",
            code="language_not_supported",
        )


def _open(file: UploadFile) -> Iterator[np.ndarray]:
    """The blocks of an upload. Readers need a name, so it lies in a file until it is open."""
    name = Path(file.filename or "").name or "The file"
    with tempfile.NamedTemporaryFile(prefix="edged-") as target:
        shutil.copyfileobj(file.file, target, 1 << 20)
        target.flush()
        return open_recording(target.name, name)


class _Job:
    """One file on its way."""

    def __init__(self, daemon: Daemon, blocks: Iterator[np.ndarray], words: bool) -> None:
        self._daemon = daemon
        self._blocks = blocks
        self._words = words
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
                    words=self._words,
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
                delta = separator + final.text
                yield _sse({"type": "transcript.text.delta", "delta": delta})
                separator = " "
            duration = await running
        except EdgedError as error:
            detail = {"message": error.message, "type": "invalid_request_error", "code": error.code}
            yield _sse({"error": detail})
            return
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, EdgedError):
                await running
        done = {
            "type": "transcript.text.done",
            "text": plain(self.finals),
            "usage": _usage(duration),
        }
        yield _sse(done)
        yield b"data: [DONE]\n\n"


def _sse(content: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


def _usage(duration: float) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(duration)}


def _answer(
    finals: list[Final], duration: float, response_format: ResponseFormat, granularities: list[Any]
) -> Response:
    match response_format:
        case "text":
            return PlainTextResponse(plain(finals) + "\n")
        case "srt":
            return PlainTextResponse(srt(finals), media_type="application/x-subrip")
        case "vtt":
            return PlainTextResponse(vtt(finals), media_type="text/vtt")
        case "verbose_json":
            return JSONResponse(_verbose(finals, duration, granularities))
        case _:
            return JSONResponse({"text": plain(finals), "usage": _usage(duration)})


def _verbose(finals: list[Final], duration: float, granularities: list[Any]) -> dict[str, Any]:
    answer = schemas.VerboseTranscription(
        duration=round(duration, 3),
        text=plain(finals),
        usage=schemas.Usage(seconds=math.ceil(duration)),
    )
    if "segment" in granularities:
        answer.segments = [_segment(number, final) for number, final in enumerate(finals)]
    if "word" in granularities:
        answer.words = [
            schemas.VerboseWord(word=word.word, start=word.start, end=word.end)
            for final in finals
            for word in final.words or []
        ]
    return answer.model_dump(exclude_none=True)


def _segment(number: int, final: Final) -> schemas.Segment:
    return schemas.Segment(
        id=number,
        start=final.start,
        end=final.end,
        text=final.text,
        avg_logprob=round(math.log(max(final.confidence, 1e-6)), 4),
    )
