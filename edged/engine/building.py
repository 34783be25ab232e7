"""Models that are wanted and are not there, or are broken, built in a process of their own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection

from edged.config import Configuration
from edged.engine import choose
from edged.errors import ModelError
from edged.log import fields, get_logger
from edged.messages import Rung
from edged.models.inventory import imported_sources, store
from edged.models.sources import SOURCES, find_source, source_named
from edged.models.store import buildable, stored_as
from edged.notify import more_time, notify
from edged.plugins import Plugins

log = get_logger(__name__)

BUILD_SECONDS = 1800.0
"""What systemd is asked for while a model is built: a small board takes its time"""


async def ensure_models(configuration: Configuration) -> None:
    """Build the models that are asked for and can be built but are not. Raises ModelError."""
    built = store().built()
    endings = endings_for(configuration.engine.provider, configuration.engine.device)
    wanted = configuration.engine.model
    precision = configuration.engine.precision
    if precision == choose.AUTO:
        precision = choose.DEFAULT[-1]
    precision = stored_as(precision)
    for source in SOURCES:
        if wanted not in {choose.AUTO, source.name}:
            continue
        if source.name in built and precision in built[source.name].precisions_for(endings):
            continue
        if find_source(source, imported_sources()):
            await build_apart(source.name, precision, endings)


async def build_apart(name: str, precision: str, endings: Collection[str]) -> None:
    """Build a model in a process of its own: the daemon imports no runtime."""
    log.info("building %s, once", name, extra=fields("model_builds", model=name))
    notify(f"STATUS=building {name}, once")
    more_time(BUILD_SECONDS)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edged",
        "models",
        "build",
        name,
        "--precision",
        precision,
        *(f"--format={kind}" for kind in buildable(endings)),
        "--quiet",
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    if process.returncode:
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        raise ModelError(lines[-1] if lines else f"{name} cannot be built")


async def mend(rung: Rung) -> bool:
    """Build a rung's broken model again, if what it is built from is there."""
    try:
        if not find_source(source_named(rung.model), imported_sources()):
            return False
        await build_apart(
            rung.model, stored_as(rung.precision), endings_for(rung.provider, rung.device)
        )
    except (ModelError, OSError) as error:
        log.error("%s", error)
        return False
    return True


def endings_for(provider: str, device: str) -> frozenset[str]:
    """Of the files that a provider opens on a device, or the default one."""
    plugins = Plugins.discover()
    return plugins.formats(provider, device) or plugins.formats(*choose.DEFAULT[:2])
