"""The daemon."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from edged.cli.options import ConfigFile, given, read_configuration

app = typer.Typer(add_completion=False)


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
        "server": given(host=host, port=port),
        "microphone": given(source=source, enabled=False if no_microphone else None),
        "engine": given(model=model),
        "log": given(level=log_level),
    }

    def read() -> Any:
        return read_configuration(config, {k: v for k, v in flags.items() if v})

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


def _run_async(main: Any) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
