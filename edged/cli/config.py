"""The effective configuration."""

from __future__ import annotations

import typer

from edged.cli.options import ConfigFile, Json, read_configuration

app = typer.Typer(add_completion=False)


@app.command()
def show_config(config: ConfigFile = None, json: Json = False) -> None:
    """Print the effective configuration."""
    configuration = read_configuration(config, {})
    if json:
        typer.echo(configuration.model_dump_json(indent=2))
        return
    import tomli_w

    typer.echo(tomli_w.dumps(configuration.model_dump(mode="json", exclude_none=True)), nl=False)
