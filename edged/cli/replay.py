"""What the flight recorder has, recognised again."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from edged.cli.options import ConfigFile, Json, given, read_configuration
from edged.cli.output import progress, quiet_log, write_json

app = typer.Typer(add_completion=False)


@app.command()
def replay(
    recording: Annotated[
        Path | None,
        typer.Argument(help="A segment, or the folder of them; else the daemon's own."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Seconds from the beginning, 14:05:30, or a date with time."),
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="The same.")] = None,
    stream: Annotated[str | None, typer.Option(help="This stream only.")] = None,
    model: Annotated[str | None, typer.Option(help="Instead of the recorded one.")] = None,
    precision: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    provider: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    device: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    silence: Annotated[
        float | None, typer.Option(help="Seconds of silence that end an utterance.", min=0)
    ] = None,
    early_silence: Annotated[
        float | None, typer.Option(help="The same where the text reads as finished.", min=0)
    ] = None,
    onset: Annotated[
        float | None, typer.Option(help="Probability from which speech begins.", min=0, max=1)
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Recognise again what the flight recorder has, and show what comes out otherwise.

    By the recorded engine, but for what the options say. Exit code 0: the same. 1: it differs. 2
    and more: it cannot be heard again.
    """
    from edged.recorder.recording import read
    from edged.recorder.tape import recordings
    from edged.replay import Wish, changed_turns
    from edged.replay import replay as run_again
    from edged.replay_table import lines

    configuration = read_configuration(config, {})
    wish = Wish(
        since=since,
        until=until,
        stream=stream,
        rung=given(model=model, precision=precision, provider=provider, device=device),
        turns=changed_turns(silence, early_silence, onset),
    )
    recorded = read(recording or recordings(configuration.recorder))
    quiet_log()
    with progress("recognising") as advance:
        result = asyncio.run(run_again(configuration, recorded, wish, advance))
    if json:
        write_json(result)
    else:
        typer.echo("\n".join(lines(result)))
    if result.differences:
        sys.exit(1)
