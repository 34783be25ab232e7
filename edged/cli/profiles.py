"""Hardware profiles."""

from __future__ import annotations

import typer

from edged.cli.options import Json
from edged.cli.output import table, write_json

app = typer.Typer(add_completion=False)


@app.command()
def profiles(json: Json = False) -> None:
    """List hardware profiles, which one this machine gets, and why not the others."""
    from edged.profiles import explain

    matches = explain()
    if json:
        write_json(matches)
        return
    rows = [
        (m.name, "chosen" if m.chosen else "; ".join(m.obstacles) or "matches, less specific")
        for m in matches
    ]
    table(("profile", "here"), rows)
