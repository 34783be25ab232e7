"""Measuring edged on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edged.cli.options import Json
from edged.cli.output import progress, write_json

app = typer.Typer(add_completion=False)

PlotFolder = Annotated[
    Path | None, typer.Option("--plots", help="Draw the figures into this folder.")
]
PlotFormat = Annotated[str, typer.Option("--format", help="Of the plots: svg or png.")]


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="auto, or a model's name.")] = "auto",
    audio: Annotated[
        Path | None,
        typer.Option(
            help="Folder of recordings, NAME.txt beside each with what is said; else the "
            "model's own."
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="These of offline, streaming, idle, start, memory, concurrency, roofline, "
            "copies and switch, as offline,start."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Measure so often.", min=1)] = 1,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Python of another environment: measure its edged by turns, and compare."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write all that was measured to this file, as JSON.")
    ] = None,
    plots: PlotFolder = None,
    format: PlotFormat = "svg",
    json: Json = False,
) -> None:
    """Measure edged on this machine, or compare what was measured.

    It starts daemons of its own, whose settings are the default ones and EDGED_... variables. A
    quick look takes three minutes; what is to be compared takes more --rounds.
    """
    if context.invoked_subcommand is not None:
        return
    from edged.bench.command import Bench
    from edged.bench.measure import Wish, parse_only

    command = Bench(output, plots, format, write_json if json else None)
    wish = Wish(model, audio, parse_only(only), rounds, against)
    with progress("measuring") as advance:
        found = command.measure(wish, advance, lambda sentence: typer.echo(sentence, err=True))
    command.show_all(found)


@app.command("compare")
def bench_compare(
    before: Annotated[str, typer.Argument(help="Result, or several: A1.json,A2.json")],
    after: Annotated[str, typer.Argument(help="What is held against it, likewise.")],
    json: Json = False,
) -> None:
    """Compare two results, figure by figure, with 95 % confidence intervals."""
    from edged.bench.command import Bench

    Bench(write_json=write_json if json else None).compare(before, after)


@app.command("show")
def bench_show(
    file: Annotated[Path, typer.Argument(help="A result.")],
    plots: PlotFolder = None,
    format: PlotFormat = "svg",
) -> None:
    """Show a result again, or draw it."""
    from edged.bench.command import Bench
    from edged.bench.result import read

    Bench(None, plots, format).show(read(file))
