"""Options that several commands have, and the configuration that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file.", dir_okay=False)
]
Url = Annotated[str | None, typer.Option(help="http://HOST:PORT; else the daemon's Unix socket.")]
TokenFile = Annotated[Path | None, typer.Option(help="File with the bearer token.")]


def given(**values: Any) -> dict[str, Any]:
    """Those options that were."""
    return {name: value for name, value in values.items() if value is not None}


def read_configuration(file: Path | None, flags: dict[str, dict[str, Any]]) -> Any:
    """From a file, else the machine's, with what flags say of each section."""
    from edged import config

    return config.load(file or config.default_file(), flags)
