"""A recording, heard as if it came from a microphone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    recording: Annotated[Path | None, typer.Argument(help="Another recording.")] = None,
) -> None:
    """Let the daemon hear a recording as if it came from a microphone, and show its captions."""
    from edged.demonstration import show

    show(recording)
