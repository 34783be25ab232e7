"""The command line's commands: ours, then the plugins'.

Plugins are looked for only when a command is asked for that is not ours, and for the list of all.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """`edged COMMAND`, where a plugin's application is called by the plugin's name."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or _of_plugins().get(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        ours = super().list_commands(ctx)
        return [*ours, *(name for name in _of_plugins() if name not in ours)]


def _of_plugins() -> dict[str, Any]:
    """The plugins' commands by name; one that is none is left out."""
    from edged.plugins import Plugins

    commands = {}
    for plugin, app in Plugins.discover().supplied("edged_cli_commands"):
        try:
            command = typer.main.get_command(app)
        except Exception as error:  # noqa: BLE001  a stranger's code
            typer.echo(f"edged: plugin {plugin.name} has no usable command: {error!r}", err=True)
            continue
        command.name = plugin.name
        commands[plugin.name] = command
    return commands
