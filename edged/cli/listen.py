"""A running daemon's microphone, in the terminal."""

from __future__ import annotations

import typer

from edged.cli.options import Json, TokenFile, Url
from edged.cli.output import quiet_log

app = typer.Typer(add_completion=False)


@app.command()
def listen(url: Url = None, token_file: TokenFile = None, json: Json = False) -> None:
    """Follow a running daemon's microphone in the terminal."""
    from edged.captions import Captions
    from edged.client import Client
    from edged.config import ServerSection, read_token
    from edged.messages import encode

    token = read_token(ServerSection(token_file=token_file))
    quiet_log()
    captions = Captions()
    try:
        for event in Client(url, token).listen(patience=3.0):
            if json:
                typer.echo(encode(event))
            else:
                captions.show(event)
    except KeyboardInterrupt:
        typer.echo()
