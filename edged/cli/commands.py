"""The command line's commands: ours, then the plugins'.

Plugins are looked for only when a command is asked for that is not ours, and for the list of all.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

OURS = (
    *("run", "reload", "transcribe", "listen", "demo", "replay", "trace", "report", "devices"),
    *("conformance", "profiles", "probe", "doctor", "config", "version"),
    *("plugins", "models", "workers", "bench"),
)
"""Each is a module here, in the order of the help"""


class Commands(TyperGroup):
    """`edged COMMAND`, where a plugin's application is called by the plugin's name."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in OURS:
            return _named(cmd_name, importlib.import_module(f"edged.cli.{cmd_name}").app)
        return _of_plugins().get(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*OURS, *(name for name in _of_plugins() if name not in OURS)]


def _named(name: str, app: typer.Typer) -> Any:
    command = typer.main.get_command(app)
    command.name = name
    return command


def _of_plugins() -> dict[str, Any]:
    """The plugins' commands by name; one that is none is left out."""
    from edged.plugins import Plugins

    commands = {}
    for plugin, app in Plugins.discover().supplied("edged_cli_commands"):
        try:
            commands[plugin.name] = _named(plugin.name, app)
        except Exception as error:  # noqa: BLE001  a stranger's code
            typer.echo(f"edged: plugin {plugin.name} has no usable command: {error!r}", err=True)
    return commands
