"""What all programs here share: their options, their tables, their JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import corpus
from edged.bench import environment
from edged.messages import Rung

MODELS = ("moonshine-tiny-en", "moonshine-base-en")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every program has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--model", action="append", help="model to measure; repeatable; the default ones"
    )
    made.add_argument("--corpus", type=Path, default=corpus.FOLDER, help="folder of the corpus")
    made.add_argument("--output", type=Path, help="write the results as JSON to this file")
    return made


def add_only(parser: argparse.ArgumentParser) -> None:
    """An option that names rungs."""
    parser.add_argument(
        "--only", action="append", help='these rungs: "openvino cpu", "tflite"; repeatable; all'
    )


def is_asked_for(rung: Rung, only: Sequence[str] | None) -> bool:
    name = f"{rung.provider} {rung.device} {rung.precision} "
    return only is None or any(name.startswith(f"{words} ") for words in only)


def models(options: argparse.Namespace) -> Sequence[str]:
    return options.model or MODELS


def begin() -> dict[str, Any]:
    """Print the environment; the document that the results go into."""
    described = environment.describe()
    print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    return {"environment": described, "models": {}}


def finish(document: dict[str, Any], output: Path | None) -> None:
    """Write the results, if they are wanted as a file."""
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they must be; the first to the left, the others to the right."""
    cells = [[_text(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    print(f"\n{title}")
    for row in cells:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join((first, *others)).rstrip())
    print(end="", flush=True)


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def percent(share: float) -> str:
    return f"{share:.1%}"


def print_broken(model: str, kinds: Sequence[tuple[str, int]]) -> None:
    """Promises of the protocol that were not kept; none is the good case."""
    if kinds:
        print_table(f"{model}: promises broken", ("promise", "times"), kinds)


def print_complaints(model: str, lines: Sequence[str]) -> None:
    """What the daemon's log warned of; silence is the good case."""
    if lines:
        print(f"\n{model}: the daemon's log has {len(lines)} warnings or errors")
        print("\n".join(f"  {line}" for line in lines))
