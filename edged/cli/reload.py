"""A running daemon reads its configuration again."""

from __future__ import annotations

import typer

from edged.cli.options import TokenFile, Url

app = typer.Typer(add_completion=False)


@app.command()
def reload(url: Url = None, token_file: TokenFile = None) -> None:
    """Have a running daemon read its configuration again.

    Exit code 0: it has, and what needs a restart is printed. 1: there is a mistake in it, and
    nothing has changed.
    """
    from edged.client.requests import Address
    from edged.config import ServerSection, read_token

    for sentence in Address(url, read_token(ServerSection(token_file=token_file))).reload():
        typer.echo(sentence)
