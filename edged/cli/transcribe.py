"""Recordings to text, without a daemon."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edged.cli.options import ConfigFile, given, read_configuration
from edged.cli.output import progress, quiet_log
from edged.errors import EdgedError

app = typer.Typer(add_completion=False)


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Sound files.")],
    format: Annotated[str, typer.Option(help="txt, json, srt or vtt.")] = "txt",
    config: ConfigFile = None,
    model: Annotated[str | None, typer.Option(help="auto, or a model's name.")] = None,
) -> None:
    """Recognise sound files and write their text."""
    from edged.offline import FORMATS, transcribe_files

    if format not in FORMATS:
        raise typer.BadParameter(f"use one of {', '.join(FORMATS)}", param_hint="--format")
    configuration = read_configuration(config, {"engine": given(model=model)})
    quiet_log()
    with progress("recognising") as advance:
        failed = _collect(transcribe_files(configuration, files, format, typer.echo, advance))
    if failed:
        sys.exit(1)


def _collect(coroutine: Any) -> bool:
    """Run to the end; print the files that could not be recognised."""
    problems: list[EdgedError] = asyncio.run(coroutine)
    for problem in problems:
        typer.echo(f"edged: {problem.message}", err=True)
    return bool(problems)
