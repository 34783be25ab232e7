"""Where each provider runs a model's graphs, as the runtime itself says.

    python -m edged.engine.placement JSON    JSON on stdout

A provider opens them in a process that may crash.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edged.engine.ask import run_apart
from edged.errors import EdgedError
from edged.parent import answer_only
from edged.provider import Device, SessionOptions, devices

if TYPE_CHECKING:
    from edged.models.store import Model

SECONDS = 120.0
"""Longest time for one provider: some devices compile for a minute"""


class Placement(msgspec.Struct, frozen=True):
    """One graph, opened on one device."""

    provider: str
    device: str | None
    """Null where the provider could not be asked"""
    file: str | None
    """Below the model's folder; null where none could be opened"""
    operators: dict[str, int] = {}
    """Of the graph as the runtime divides it among devices; empty where it cannot tell"""
    reason: str | None = None
    """Why it was not opened"""


class Question(msgspec.Struct, frozen=True):
    """What a process is asked."""

    provider: str
    folder: str
    precision: str
    extra: dict[str, Any]
    """`[providers.NAME]` of the configuration"""


async def place(
    model: Model, precision: str, providers: Sequence[str], extra: Mapping[str, Mapping[str, Any]]
) -> list[Placement]:
    """Open a model's graphs with these providers, one after the other."""
    found = []
    for name in providers:
        question = Question(name, str(model.folder), precision, dict(extra.get(name, {})))
        found += await _ask(question)
    return found


async def _ask(question: Question) -> list[Placement]:
    text = msgspec.json.encode(question).decode()
    try:
        return list(await run_apart("edged.engine.placement", list[Placement], SECONDS, text))
    except EdgedError as error:
        return [Placement(question.provider, None, None, reason=error.message)]


# -- in the process that may be lost --------------------------------------------------------------


def answer(question: Question) -> Iterator[Placement]:
    """Open every graph on every device that the provider finds. Raises EdgedError."""
    from edged.models.store import read_model
    from edged.plugins import Plugins

    model = read_model(Path(question.folder))
    provider = Plugins.discover().provider(question.provider)
    for device in devices(provider, question.extra):
        for file in _files(model, question.precision, provider.formats_on(device.name)):
            yield _opened(provider, device, model, file, question)


def _files(model: Model, precision: str, endings: frozenset[str]) -> list[str]:
    """The graphs that a provider would open, each in its most special form."""
    from edged.models.store import stored_as

    stored = stored_as(precision)
    inside = [Path(file).parts[1] for file in model.files if file.startswith(f"{stored}/")]
    names = {name.partition(".")[0] for name in inside}
    found = []
    for name in sorted(names):
        try:
            path = model.graph(precision, name, endings)
        except EdgedError:
            continue
        found.append(str(path.relative_to(model.folder)))
    return found


def _opened(
    provider: Any, device: Device, model: Model, file: str, question: Question
) -> Placement:
    options = SessionOptions(precision=question.precision, extra=question.extra, inspect=True)
    try:
        session = provider.open(model.path(file), device, options)
    except EdgedError as error:
        return Placement(provider.name, device.name, file, reason=error.message)
    placed = dict(session.placement)
    session.close()
    return Placement(provider.name, device.name, file, placed)


def main() -> None:
    out = answer_only()
    try:
        placements = list(answer(msgspec.json.decode(sys.argv[1], type=Question)))
    except EdgedError as error:
        sys.exit(error.message)
    with open(out, "wb") as stream:  # noqa: PTH123  a descriptor
        stream.write(msgspec.json.encode(placements))


if __name__ == "__main__":
    main()
