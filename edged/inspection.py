"""`edged models inspect`: what a built model is made of, and where it would run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from edged.engine.placement import Placement, place
from edged.models.anatomy import GraphReport, graphs
from edged.models.inventory import store
from edged.plugins import Plugins

if TYPE_CHECKING:
    from edged.config import Configuration

USUAL = "int8"
"""The precision that is looked at where none is named, if it is there"""


class Inspection(msgspec.Struct, frozen=True):
    """What `edged models inspect --json` writes."""

    model: str
    precision: str
    graphs: list[GraphReport]
    placements: list[Placement]
    """What each provider runs where"""


def inspect(
    configuration: Configuration,
    name: str,
    precision: str | None,
    provider: str | None,
    seconds: float,
) -> Inspection:
    """Look at a built model; with one provider, at what that one opens. Raises EdgedError."""
    model = store().get(name)
    chosen = precision or (USUAL if USUAL in model.precisions else model.precisions[0])
    plugins = Plugins.discover()
    asked = [plugins.provider(provider)] if provider else plugins.providers()
    endings = {ending for known in asked for ending in known.formats}
    found = graphs(model, chosen, endings, seconds)
    names = [known.name for known in asked]
    placed = asyncio.run(place(model, chosen, names, configuration.provider_options()))
    return Inspection(name, chosen, found, placed)
