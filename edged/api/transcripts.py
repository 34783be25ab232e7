"""What was said: stored finals, in pages or as a file, and the microphone's events as they come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from msgspec.structs import replace

from edged.api import schemas
from edged.api.problems import ERRORS, described
from edged.daemon import MICROPHONE, Daemon
from edged.errors import EdgedError
from edged.messages import Closed, Event, Final, Partial, encode
from edged.subtitles import srt_cues, vtt_cues
from edged.transcripts import Transcript, TranscriptStore

HEARTBEAT_SECONDS = 15.0
FLUSH_SECONDS = 1.0
"""Longest wait for finals that are still on their way to the disk"""

router = APIRouter(prefix="/v1/transcripts", tags=["edged"])

_NUMBER = re.compile("[0-9]{1,18}")
_STORE_ERRORS = ERRORS | described(404, 503)
_FILES = {
    "txt": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "json": "application/json",
}
"""Media types of what can be downloaded"""
_EXAMPLE = {"example": "It was the best of times.\n"}


def _wanted(
    since: Annotated[float | None, Query(description="Unix time")] = None,
    until: Annotated[float | None, Query(description="Unix time")] = None,
    q: Annotated[str | None, Query(max_length=1000, description="Words, all of them")] = None,
    stream: Annotated[
        str | None, Query(max_length=100, description="Of one stream: microphone, stream-1")
    ] = None,
) -> dict[str, Any]:
    """Which finals, as the store is asked for them."""
    return {"since": since, "until": until, "query": q, "stream": stream}


Wanted = Annotated[dict[str, Any], Depends(_wanted)]


def _daemon(request: Request) -> Daemon:
    daemon: Daemon = request.app.state.daemon
    return daemon


async def _store(request: Request) -> TranscriptStore:
    """With everything that was said so far."""
    daemon = _daemon(request)
    store = daemon.transcripts
    if daemon.unkept:
        raise EdgedError(daemon.unkept, code="store")
    if store is None:
        raise EdgedError(
            "Transcripts are not kept. Set transcripts.enabled = true", code="no_store"
        )
    await asyncio.to_thread(store.flush, FLUSH_SECONDS)
    return store


Store = Annotated[TranscriptStore, Depends(_store)]


@router.get("", responses=_STORE_ERRORS)
async def transcripts(
    store: Store,
    wanted: Wanted,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    order: Literal["oldest", "newest"] = "oldest",
    cursor: Annotated[
        str | None, Query(pattern="^[0-9]{1,18}$", description="From the last page")
    ] = None,
) -> schemas.TranscriptPage:
    """Stored finals, oldest or newest first, in pages."""
    found = await asyncio.to_thread(
        store.find,
        after=int(cursor) if cursor else None,
        newest=order == "newest",
        limit=limit + 1,
        **wanted,
    )
    page = found[:limit]
    return schemas.TranscriptPage(
        transcripts=[_shown(transcript) for transcript in page],
        cursor=str(page[-1].id) if len(found) > limit else None,
    )


def _shown(transcript: Transcript) -> schemas.Transcript:
    return schemas.Transcript(**msgspec.to_builtins(transcript))


@router.get(
    "/download",
    response_class=StreamingResponse,
    responses=_STORE_ERRORS
    | {200: {"content": {kind.partition(";")[0]: _EXAMPLE for kind in _FILES.values()}}},
)
async def download(
    store: Store,
    wanted: Wanted,
    kind: Annotated[Literal["txt", "srt", "vtt", "json"], Query(alias="format")] = "txt",
) -> StreamingResponse:
    """Stored finals as a file, oldest first.

    Text has a line for each; in subtitles time begins with the first; JSON is a list of what
    `GET /v1/transcripts` gives.
    """
    first = await asyncio.to_thread(store.find, limit=1, **wanted)
    begin = first[0].time if first else 0.0
    return StreamingResponse(
        _WRITERS[kind](store.all(**wanted), begin),
        media_type=_FILES[kind],
        headers={"Content-Disposition": f'attachment; filename="transcripts.{kind}"'},
    )


def _txt(found: Iterator[Transcript], _begin: float) -> Iterator[str]:
    return (f"{transcript.text}\n" for transcript in found)


def _srt(found: Iterator[Transcript], begin: float) -> Iterator[str]:
    return (f"{cue}\n" for cue in srt_cues(_since(found, begin)))


def _vtt(found: Iterator[Transcript], begin: float) -> Iterator[str]:
    return (f"{cue}\n" for cue in vtt_cues(_since(found, begin)))


def _json(found: Iterator[Transcript], _begin: float) -> Iterator[str]:
    before = "["
    for transcript in found:
        yield before + _shown(transcript).model_dump_json()
        before = ",\n"
    yield "]\n" if before != "[" else "[]\n"


_WRITERS: dict[str, Callable[[Iterator[Transcript], float], Iterator[str]]] = {
    "txt": _txt,
    "srt": _srt,
    "vtt": _vtt,
    "json": _json,
}


def _since(found: Iterator[Transcript], begin: float) -> Iterator[Final]:
    """Finals in seconds from `begin`: each stream's own time starts anew with the daemon."""
    for transcript in found:
        start = max(0.0, transcript.time - begin)
        event = transcript.event
        yield replace(event, start=start, end=start + event.end - event.start)


@router.delete("", responses=_STORE_ERRORS)
async def forget(
    request: Request,
    store: Store,
    since: Annotated[float | None, Query(description="Unix time", allow_inf_nan=False)] = None,
    until: Annotated[float | None, Query(description="Unix time", allow_inf_nan=False)] = None,
) -> schemas.Forgotten:
    """Delete what was said in a span of time: none of its bytes are left in the store's files.

    What `GET` lists for the span is deleted; what is still being said is not stored yet. `since=0`
    deletes everything. An error means that something is left; asking again does no harm.
    """
    if since is None and until is None:
        raise EdgedError("Give since, until or both; since=0 deletes everything", code="no_span")
    done = await asyncio.to_thread(store.forget, since, until)
    recorded = await asyncio.to_thread(_daemon(request).recorded_since, since or 0.0)
    remains = [str(path) for path in (*done.remains, *recorded)]
    return schemas.Forgotten(deleted=done.deleted, remains=remains)


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses=ERRORS
    | described(503)
    | {200: {"content": {"text/event-stream": {"example": "event: final\nid: 7\ndata: {}\n\n"}}}},
)
async def transcript_events(
    request: Request,
    partials: bool = True,
    words: bool = False,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """The events of `WS /v1/transcripts` as server-sent events.

    With `Last-Event-ID`, the finals stored since that number come first.
    """
    daemon = _daemon(request)
    if daemon.clients >= daemon.configuration.server.max_clients:
        raise EdgedError("Too many clients; try later", code="too_many_clients")
    number = _NUMBER.fullmatch(last_event_id or "")
    after = int(number[0]) if number else None
    stream = _events(daemon, after, partials, words)
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(
    daemon: Daemon, after: int | None, partials: bool, words: bool
) -> AsyncIterator[bytes]:
    subscriber = daemon.hub.subscribe(words=words)
    daemon.clients += 1
    try:
        yield _sse(daemon.hello(MICROPHONE))
        last = after or 0
        if after is not None and daemon.transcripts:
            while missed := await asyncio.to_thread(_missed, daemon.transcripts, last):
                last = missed[-1].id
                for stored in missed:
                    if stored.stream == MICROPHONE:
                        yield _sse(stored.event if words else replace(stored.event, words=None))
        while not subscriber.too_slow:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    event, encoded = await subscriber.get()
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if isinstance(event, Final) and event.id is not None and event.id <= last:
                continue
            if partials or not isinstance(event, Partial):
                yield _sse(event, encoded)
            if isinstance(event, Closed):
                return
    finally:
        daemon.hub.unsubscribe(subscriber)
        daemon.clients -= 1


def _missed(store: TranscriptStore, after: int) -> list[Transcript]:
    """The next finals since a number, those still on their way to the disk included."""
    store.flush(FLUSH_SECONDS)
    return store.find(after=after, limit=1000)


def _sse(event: Event, encoded: bytes | None = None) -> bytes:
    number = f"id: {event.id}\n" if isinstance(event, Final) and event.id is not None else ""
    name = type(event).__struct_config__.tag
    return f"event: {name}\n{number}data: ".encode() + (encoded or encode(event)) + b"\n\n"
