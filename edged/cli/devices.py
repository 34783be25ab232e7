"""Audio inputs."""

from __future__ import annotations

import asyncio

import typer

from edged.cli.options import Json
from edged.cli.output import table, write_json

app = typer.Typer(add_completion=False)


@app.command()
def devices(json: Json = False) -> None:
    """List audio inputs by their stable identity."""
    from edged.audio.devices import InputDevice
    from edged.engine.ask import run_apart

    found = asyncio.run(run_apart("edged.audio.devices", list[InputDevice], 10.0))
    if json:
        write_json(found)
        return
    if not found:
        typer.echo("There is no audio input. edged run serves clients and takes one that appears.")
    rows = [(d.identity, d.label, str(d.channels), str(d.rate), "yes" * d.default) for d in found]
    if rows:
        table(("identity", "name", "channels", "hertz", "default"), rows)
