"""Plugins: those that are there, and new ones."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from edged.cli.options import Json, read_configuration
from edged.cli.output import table, write_json

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def plugins(
    context: typer.Context,
    json: Json = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Try again what could not be loaded.")
    ] = False,
) -> None:
    """List plugins, with the reason for each that is not usable, and what providers find here."""
    if context.invoked_subcommand is None:
        _list_plugins(json, fresh)


@app.command("new")
def plugins_new(
    name: Annotated[str, typer.Argument(help="Small letters; the distribution is edged-NAME.")],
    kind: Annotated[
        str, typer.Option(help="provider, recognizer, sink, source, router or command.")
    ] = "provider",
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path(),
) -> None:
    """Write a plugin that works, with a test of its contract, to be made into yours."""
    from edged.skeleton import write

    written = write(name, kind, folder)
    typer.echo(f"{written} is written. Run: pip install {written}; edged conformance {name}")


def _list_plugins(json: bool, fresh: bool) -> None:
    from edged.engine.ask import ask_all
    from edged.plugins import Plugins

    installed = (Plugins.look_again() if fresh else Plugins.discover()).all
    configuration = read_configuration(None, {})
    providers = asyncio.run(ask_all(configuration.provider_options()))
    if json:
        write_json(
            {
                "plugins": [
                    {"name": p.name, "version": p.version, "usable": not p.error, "reason": p.error}
                    for p in installed
                ],
                "providers": providers,
            }
        )
        return
    table(
        ("plugin", "from", "usable"),
        [(p.name, f"{p.distribution} {p.version}", p.error or "yes") for p in installed],
    )
    typer.echo()
    table(
        ("provider", "version", "devices"),
        [(p.name, p.version or "", p.error or ", ".join(p.devices)) for p in providers],
    )
