"""What commands show: tables and JSON on standard output, progress beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import typer


def write_json(value: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(*heading, box=box.SIMPLE_HEAD)
    for row in rows:
        shown.add_row(*row)
    Console(soft_wrap=not sys.stdout.isatty()).print(shown)


@contextmanager
def progress(what: str) -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr where that is a terminal; called with a label and the share done."""
    if not sys.stderr.isatty():
        yield lambda _label, _share: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda label, share: bar.update(task, description=label, completed=share)


def quiet_log() -> None:
    """Errors alone: the command itself says the rest."""
    from edged.log import set_up

    set_up("error")
