"""Pythons of their own, for runtimes that need one."""

from __future__ import annotations

from typing import Annotated

import typer

from edged.cli.options import Json, read_configuration
from edged.cli.output import table, write_json

app = typer.Typer(
    help="Pythons of their own, for runtimes that need one.",
    add_completion=False,
    no_args_is_help=True,
)


@app.command("list")
def workers_list(json: Json = False) -> None:
    """List the Pythons that can be created, are there, or are named in the configuration."""
    from edged.workers import inventory

    named = {name: own.python for name, own in read_configuration(None, {}).workers.items()}
    entries = inventory(named)
    if json:
        write_json(entries)
        return
    rows = [(e.name, e.purpose, e.python or "-", e.reason or "yes") for e in entries]
    table(("worker", "for", "python", "usable"), rows)


@app.command("create")
def workers_create(
    name: Annotated[str, typer.Argument(help="Which one.")],
    package: Annotated[
        list[str] | None,
        typer.Option(help="What pip is to install there, instead of a recipe. May be repeated."),
    ] = None,
) -> None:
    """Create one, in place of what is there of it."""
    from edged.workers import create, packages_of

    python = create(name, package or ())
    found = ", ".join(f"{name} {version}" for name, version in packages_of(python).items())
    typer.echo(f"{python} is ready: {found}")
