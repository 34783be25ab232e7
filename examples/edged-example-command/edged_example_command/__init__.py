"""A command for edged: `edged count words TEXT-FILE`."""

from edged.hookspecs import hookimpl


@hookimpl
def edged_cli_commands():
    from pathlib import Path

    import typer

    app = typer.Typer(help="Counts what was said.", no_args_is_help=True)

    @app.command()
    def words(transcript: Path) -> None:
        """Count the words of a transcript (`edged transcribe FILE > TRANSCRIPT`)."""
        typer.echo(len(transcript.read_text().split()))

    @app.command()
    def lines(transcript: Path) -> None:
        """Count its lines."""
        typer.echo(len(transcript.read_text().splitlines()))

    return [app]
