"""What this machine can do."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from edged.cli.options import Json, read_configuration
from edged.cli.output import progress, write_json
from edged.errors import EdgedError

app = typer.Typer(add_completion=False)


@app.command()
def probe(
    model: Annotated[list[str] | None, typer.Option(help="This model only; repeatable.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Prove again what was proven.")] = False,
    no_build: Annotated[
        bool, typer.Option("--no-build", help="Leave out what is not built yet.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(help="Write what is read of this machine's hardware there.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Look at a machine that was recorded there.")
    ] = None,
    json: Json = False,
) -> None:
    """Prove by real inference what this machine can do.

    Exit code 0: all that was asked for works. 1: something is in the way, or was refused. 2:
    nothing can run.
    """
    from edged.engine.probe import probe_machine, probe_recorded
    from edged.probe_table import EXIT_CODES, show

    if root:
        report = probe_recorded(root)
    else:
        if record:
            _record(record)
        configuration = read_configuration(None, {})
        with progress("looking") as advance:
            report = asyncio.run(
                probe_machine(
                    configuration, model or [], build=not no_build, fresh=fresh, progress=advance
                )
            )
    if json:
        write_json(report)
    else:
        show(report)
    sys.exit(EXIT_CODES[report.status])


def _record(folder: Path) -> None:
    from edged.hardware.record import record
    from edged.hardware.root import Root

    try:
        record(Root(), folder)
    except OSError as error:
        raise EdgedError(f"{folder} cannot be written ({error.strerror})") from error
