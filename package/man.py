"""Write the manual pages from the command line and the configuration: man.py FOLDER"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edged import __version__
from edged.cli import app
from edged.cli.commands import OURS, Commands
from edged.config import Configuration

FILES = {
    "/etc/edged/edged.toml": "The machine's configuration, edged.toml(5).",
    "~/.config/edged/edged.toml": "The user's, which is taken instead where there is one.",
    "/run/edged/edged.sock": "The service's Unix socket, for members of the group edged.",
    "/var/lib/edged": "The service's state: transcripts, and Pythons of other runtimes.",
    "/var/cache/edged": "What the service has built or measured, and can again.",
    "/usr/share/doc/edged/drop-ins": "Drop-ins of edged.service: accelerators, network.",
}
ENVIRONMENT = {
    "EDGED_SECTION_KEY": "Goes over a key of the configuration: EDGED_SERVER_PORT=7000.",
    "EDGED_CACHE_DIR, EDGED_STATE_DIR, EDGED_CONFIG_DIR, EDGED_RUNTIME_DIR": "Move the folders.",
}
EXIT_STATUS = {
    "0": "It is done.",
    "1": "It could not be done.",
    "2": "The command line or the configuration has a mistake.",
    "3": "A model is missing or broken.",
    "4": "Another program listens on the port.",
}


def roff(text: str) -> str:
    """Text as it is read by troff: nothing of it a command."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    lines = (line.strip().replace("`", "\\(ga") for line in escaped.splitlines())
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in lines)


def title(name: str, section: int, what: str) -> Iterator[str]:
    yield f'.TH {name.upper()} {section} "" "edged {__version__}"'
    yield f".SH NAME\n{name} \\- {roff(what)}"


def terms(heading: str, entries: dict[str, str]) -> Iterator[str]:
    yield f".SH {heading}"
    for term, text in entries.items():
        yield f".TP\n\\fB{roff(term)}\\fR\n{roff(text)}"


def commands(command: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """Every command below this one, with its context; groups only where they do something."""
    for name in OURS if isinstance(command, Commands) else command.commands:
        found = command.get_command(context, name)
        inner = typer.Context(found, info_name=name, parent=context)
        if not hasattr(found, "commands") or found.invoke_without_command:
            yield found, inner
        if hasattr(found, "commands"):
            yield from commands(found, inner)


def described(command: Any, context: Any) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f".SS {roff(usage)}"
    yield "\n.PP\n".join(roff(part) for part in inspect.cleandoc(command.help or "").split("\n\n"))
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and parameter.name != "help":
            yield f".TP\n\\fB{roff(record[0])}\\fR\n{roff(record[1])}"


def edged() -> str:
    """edged(1)"""
    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="edged")
    lines = [*title("edged", 1, "local streaming speech recognition, as a daemon")]
    lines.append(".SH SYNOPSIS\n\\fBedged\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]...\n.SH COMMANDS")
    for command, inner in commands(root, context):
        lines += described(command, inner)
    lines += terms("FILES", FILES)
    lines += terms("ENVIRONMENT", ENVIRONMENT)
    lines += terms("EXIT STATUS", EXIT_STATUS)
    lines.append(".SH SEE ALSO\n.BR edged.toml (5),\n.BR systemctl (1)")
    return "\n".join(lines) + "\n"


def settings(section: type[BaseModel]) -> Iterator[str]:
    for key, field in section.model_fields.items():
        unset = field.default in (PydanticUndefined, None, "")
        value = str(field.default).lower() if isinstance(field.default, bool) else field.default
        default = "" if unset else f" (default: {value})"
        yield f".TP\n\\fB{roff(key)}\\fR\n{roff((field.description or '') + default)}"


def edged_toml() -> str:
    """edged.toml(5)"""
    lines = [*title("edged.toml", 5, "configuration of edged")]
    lines.append(
        ".SH DESCRIPTION\nA file in TOML. Every key may be left out; one that is unknown is an "
        "error. What is in force, \\fBedged config\\fR prints; \\fBedged reload\\fR has a running "
        "daemon read it again."
    )
    for name, field in Configuration.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            lines.append(f".SH [{name}]\n{roff(inspect.getdoc(kind) or '')}")
        else:
            lines.append(f".SH [{name}.NAME]\n{roff(field.description or '')}.")
            kind = get_args(kind)[-1]
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            lines += settings(kind)
    lines.append(".SH SEE ALSO\n.BR edged (1)")
    return "\n".join(lines) + "\n"


PAGES = {"man1/edged.1": edged, "man5/edged.toml.5": edged_toml}


def main(folder: Path) -> None:
    for name, write in PAGES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(write(), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
