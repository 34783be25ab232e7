"""The command line: a module for each command, read when that is asked for.

So `edged run` is not kept waiting by what it does not use; what a command needs itself is imported
where it runs.
"""

from __future__ import annotations

import sys

import typer

from edged.cli.commands import Commands
from edged.errors import EdgedError

app = typer.Typer(
    name="edged",
    cls=Commands,
    help="Local streaming speech recognition, as a daemon.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def edged() -> None:
    pass  # typer wants one where it is given no command; `Commands` has them


def main() -> None:
    """Run the command line; a user's mistake is one line and an exit code."""
    try:
        app()
    except EdgedError as error:
        typer.echo(f"edged: {error.message}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads on: no second complaint at exit
        sys.exit(1)
