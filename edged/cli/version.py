"""Versions."""

from __future__ import annotations

import typer

from edged import __version__
from edged.cli.options import Json
from edged.cli.output import write_json

app = typer.Typer(add_completion=False)


@app.command()
def version(json: Json = False) -> None:
    """Print versions: edged, Python and the libraries that matter in a report."""
    import importlib.metadata
    import platform

    names = ("onnxruntime", "numpy", "sounddevice", "fastapi", "uvicorn")
    versions = {"edged": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in names}
    if json:
        write_json(versions)
    else:
        typer.echo("\n".join(f"{name} {number}" for name, number in versions.items()))
