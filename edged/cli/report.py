"""An archive for a bug report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edged.cli.options import ConfigFile, TokenFile, Url, read_configuration
from edged.errors import EdgedError

app = typer.Typer(add_completion=False)


@app.command()
def report(
    output: Annotated[
        Path | None, typer.Option(help="The archive; else edged-report-TIME.tar.gz here.")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="With what was said, as text.")] = False,
    audio: Annotated[
        bool, typer.Option("--audio", help="With the flight recorder's audio, and so its text.")
    ] = False,
    minutes: Annotated[
        float, typer.Option(help="So much of the log and the flight recorder.", min=1)
    ] = 30,
    url: Url = None,
    token_file: TokenFile = None,
    dry_run: Annotated[bool, typer.Option("--list", help="Only list what would be in it.")] = False,
    config: ConfigFile = None,
) -> None:
    """Make an archive for a bug report: secrets and, unless asked for, all that was said are left
    out."""
    import time

    from edged.config import ServerSection, read_token
    from edged.report import Wish, collect, write

    try:
        configuration = read_configuration(config, {})
    except EdgedError as error:
        configuration = error
    token = read_token(ServerSection(token_file=token_file))
    parts = list(collect(configuration, url, token, Wish(audio, text, minutes)))
    for part in parts:
        typer.echo(f"{len(part.content):>10}  {part.name}  ({part.about})")
    if not dry_run:
        path = output or Path(time.strftime("edged-report-%Y%m%dT%H%M%S.tar.gz"))
        write(path, parts)
        typer.echo(f"{path} is written. Look into it before you give it away")
