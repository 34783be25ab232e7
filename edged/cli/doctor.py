"""What is wrong around edged here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edged.cli.options import ConfigFile, Json, TokenFile
from edged.cli.output import write_json

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    subjects: Annotated[
        list[str] | None,
        typer.Argument(
            help="configuration, service, audio, engine, network, disk, clock, permissions; all, "
            "if none."
        ),
    ] = None,
    config: ConfigFile = None,
    url: Annotated[
        str | None, typer.Option(help="http://HOST:PORT; else where the configuration has it.")
    ] = None,
    token_file: TokenFile = None,
    seconds: Annotated[
        float, typer.Option(help="How long to listen; speak meanwhile.", min=0.5, max=60)
    ] = 3.0,
    json: Json = False,
) -> None:
    """Find out what is wrong around edged here, and what mends it.

    Exit code 0: nothing. 1: something is not as it should be. 2: something keeps it from working.
    """
    from edged.doctor.examine import examine
    from edged.doctor.patient import Request
    from edged.doctor.table import EXIT_CODES, show

    report = examine(Request(config, url, token_file, seconds), subjects or ())
    if json:
        write_json(report)
    else:
        show(report)
    sys.exit(EXIT_CODES[report.status])
