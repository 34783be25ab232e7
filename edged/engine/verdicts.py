"""What was proven here, kept in the cache directory until something that it depends on changes.

A verdict holds for one build of the model, one runtime, one driver, one kernel and one version of
edged. Looking it up imports no runtime.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from edged import __version__, elsewhere, paths
from edged.engine.prove import Verdict
from edged.errors import ModelError
from edged.files import write_whole
from edged.hardware.accelerators import Accelerator
from edged.hardware.machine import Machine, find
from edged.messages import Rung
from edged.models.inventory import store
from edged.models.store import stored_as
from edged.plugins import Plugins

FILE = "verdicts.json"
T = TypeVar("T")


class _Entry(msgspec.Struct, frozen=True):
    """Something found, and the circumstances in which it was found."""

    key: str
    value: msgspec.Raw


class _Contents(msgspec.Struct):
    """The file."""

    verdicts: dict[str, _Entry] = {}
    """By rung"""
    facts: dict[str, _Entry] = {}
    """Other things that take time to find out, by name"""


class Verdicts:
    """The verdicts that hold on this machine as it is now."""

    def __init__(
        self,
        machine: Machine | None = None,
        plugins: Plugins | None = None,
        options: elsewhere.Options = MappingProxyType({}),
    ) -> None:
        """`options` are `Configuration.provider_options()`, which may name other Pythons."""
        self.machine = machine or find()
        self.plugins = plugins or Plugins.discover()
        self._runtimes = runtimes(self.plugins, options)
        self._path = paths.cache_directory() / FILE
        self._contents = _read(self._path)

    @property
    def providers(self) -> Collection[str]:
        """The names of all providers, in this Python and in others."""
        return self._runtimes.keys()

    def get(self, rung: Rung) -> Verdict | None:
        """The verdict about a rung, if it still holds."""
        return _value(self._contents.verdicts.get(str(rung)), self._key(rung), Verdict)

    def put(self, verdict: Verdict) -> None:
        """Remember a verdict in place of the last one about its rung. Raises EdgedError."""
        key = self._key(verdict.rung)
        if key is not None:
            value = msgspec.Raw(msgspec.json.encode(verdict))
            self._contents.verdicts[str(verdict.rung)] = _Entry(key, value)
            _write(self._path, self._contents)

    def remembered(self) -> list[Verdict]:
        """Every verdict that still holds."""
        rungs = [_rung(entry) for entry in self._contents.verdicts.values()]
        found = [self.get(rung) for rung in rungs if rung]
        return [verdict for verdict in found if verdict]

    def fact(self, name: str, kind: type[T]) -> T | None:
        """Something else that was found with the same hardware and software."""
        return _value(self._contents.facts.get(name), self._surroundings(), kind)

    def put_fact(self, name: str, value: Any) -> None:
        """Remember something else. Raises EdgedError."""
        entry = _Entry(self._surroundings(), msgspec.Raw(msgspec.json.encode(value)))
        self._contents.facts[name] = entry
        _write(self._path, self._contents)

    def _key(self, rung: Rung) -> str | None:
        """All that a verdict depends on; None where the model is not built or there is no such
        provider."""
        digest = _digest(rung, self.plugins.formats(rung.provider, rung.device))
        runtime = self._runtimes.get(rung.provider)
        if digest is None or runtime is None:
            return None
        drivers = [
            _driver(found)
            for found in self.machine.accelerators
            if rung.accelerator in found.providers
        ]
        return _joined(digest, rung, runtime, drivers, self.machine.kernel, __version__)

    def _surroundings(self) -> str:
        machine = self.machine
        hardware = [machine.cpu, machine.libraries, machine.kernel]
        nodes = [(found.hardware, found.address, found.nodes) for found in machine.accelerators]
        drivers = [_driver(found) for found in machine.accelerators]
        return _joined(hardware, nodes, drivers, self._runtimes, __version__)


def remembered() -> list[Verdict]:
    """Every verdict that holds on this machine as it is now; when it was found is in each."""
    return Verdicts().remembered()


def runtimes(plugins: Plugins, options: elsewhere.Options = MappingProxyType({})) -> dict[str, str]:
    """By provider, the versions of its plugin and of its runtime, without importing the runtime."""
    others = elsewhere.providers(plugins, options)
    here = {
        provider.name: ", ".join([f"{plugin.distribution} {plugin.version}", *provider.installed()])
        for plugin in plugins.all
        for provider in plugin.supplies.get("edged_execution_providers", [])
    }
    return here | {n: elsewhere.runtime(plugins, n, python) for n, python in others.items()}


def _driver(accelerator: Accelerator) -> str:
    return f"{accelerator.id} {accelerator.driver} {accelerator.driver_version}"


def _digest(rung: Rung, endings: Collection[str]) -> str | None:
    try:
        model = store().get(rung.model)
    except ModelError:
        return None
    built = model.precisions_for(endings)
    return model.digest(rung.precision, endings) if stored_as(rung.precision) in built else None


def _rung(entry: _Entry) -> Rung | None:
    try:
        return msgspec.json.decode(entry.value, type=Verdict).rung
    except msgspec.DecodeError:
        return None


def _joined(*parts: Any) -> str:
    return msgspec.json.encode(parts).decode()


def _value(entry: _Entry | None, key: str | None, kind: type[T]) -> T | None:
    if entry is None or key is None or entry.key != key:
        return None
    try:
        return msgspec.json.decode(entry.value, type=kind)
    except msgspec.DecodeError:
        return None


def _read(path: Path) -> _Contents:
    """What is there; nothing where the file is missing, broken or of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Contents)
    except (OSError, msgspec.DecodeError):
        return _Contents()


def _write(path: Path, contents: _Contents) -> None:
    write_whole(path, msgspec.json.format(msgspec.json.encode(contents), indent=1))
