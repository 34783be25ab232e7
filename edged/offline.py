"""`edged transcribe`: recordings through an engine of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edged.audio.files import duration, open_recording
from edged.config import Configuration
from edged.engine.assembly import make_supervisor
from edged.engine.building import ensure_models
from edged.engine.choose import AUTO
from edged.engine.supervisor import Supervisor
from edged.engine.transcribe import transcribe
from edged.errors import EdgedError
from edged.messages import Event, Final
from edged.models.inventory import store
from edged.recognizer import SAMPLE_RATE
from edged.subtitles import plain, srt, vtt

Writer = Callable[[str], Any]
Progress = Callable[[str, float], None]


def _json(finals: Sequence[Final]) -> str:
    return msgspec.json.encode(finals).decode()


FORMATS: dict[str, Callable[[Sequence[Final]], str]] = {
    "txt": plain,
    "json": _json,
    "srt": srt,
    "vtt": vtt,
}


async def transcribe_files(
    configuration: Configuration,
    files: Sequence[Path],
    format: str,
    write: Writer,
    progress: Progress,
) -> list[EdgedError]:
    """Write each file's text; returns what went wrong with single files."""
    await ensure_models(configuration)
    if configuration.engine.model != AUTO:
        store().get(configuration.engine.model)  # says what is missing before anything is started
    supervisor = make_supervisor(configuration)
    supervisor.start()
    problems: list[EdgedError] = []
    try:
        await supervisor.wait_ready()
        for file in files:
            try:
                finals = await _transcribe(supervisor, file, format == "json", progress)
                write(FORMATS[format](finals))
            except EdgedError as error:
                problems.append(error)
    finally:
        await supervisor.stop()
    return problems


async def _transcribe(
    supervisor: Supervisor, file: Path, words: bool, progress: Progress
) -> list[Final]:
    finals: list[Final] = []

    def take(event: Event) -> None:
        if isinstance(event, Final) and event.text:
            finals.append(event)

    blocks = _watched(open_recording(file), file, progress)
    await transcribe(supervisor, blocks, take, words=words)
    return finals


def _watched(blocks: Iterator[np.ndarray], file: Path, progress: Progress) -> Iterator[np.ndarray]:
    """The same blocks, telling how far one has come."""
    total = (duration(file) or 0) * SAMPLE_RATE
    done = 0
    for block in blocks:
        done += len(block)
        progress(file.name, min(done / total, 1.0) if total else 0.0)
        yield block
