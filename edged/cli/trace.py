"""What every process does with a recording, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edged.cli.options import ConfigFile, given, read_configuration
from edged.cli.output import progress, quiet_log, table

app = typer.Typer(add_completion=False)


@app.command()
def trace(
    recording: Annotated[
        Path,
        typer.Argument(help="A sound file, or the folder of a daemon that has trace.folder set."),
    ],
    output: Annotated[
        Path | None, typer.Option(help="The file; else NAME.trace.json here. .gz compresses it.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="auto, or a model's name.")] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as it goes, not at the pace of time.")
    ] = False,
    operators: Annotated[
        float, typer.Option(help="Seconds of the runtime's own profile, which slows it.", min=0)
    ] = 10.0,
    config: ConfigFile = None,
) -> None:
    """Show what every process does with a recording, and when: for https://ui.perfetto.dev.

    A daemon of its own hears it as a microphone would; a client follows.
    """
    from edged.trace.record import OPERATORS, STAGES
    from edged.trace.record import trace as write_trace

    configuration = read_configuration(config, {"engine": given(model=model)})
    path = output or Path(f"{recording.absolute().stem}.trace.json")
    quiet_log()
    with progress("listening") as advance:
        found = write_trace(configuration, recording, path, advance, fast=fast, seconds=operators)
    for what, count, rows in (
        ("final", found.finals, found.final),
        ("partial", found.partials, found.partial),
    ):
        table((f"{count} {what}s: where their ms went", *STAGES[1:]), rows)
    if found.operators:
        table(OPERATORS, found.operators)
    if found.workers > 1:
        typer.echo("Note: the engine was replaced meanwhile: see `publish engine` in the trace.")
    typer.echo(f"{path} is written. Open it in https://ui.perfetto.dev or chrome://tracing")
