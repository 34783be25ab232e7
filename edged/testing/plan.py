"""Which checks belong to a name: a plugin's, or that of something that a plugin supplies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edged.elsewhere import require
from edged.errors import EdgedError
from edged.plugins import NAMED_BY, Plugin, Plugins
from edged.testing import plugins as small
from edged.testing.check import Check, Result
from edged.testing.providers import CHECKS as PROVIDER
from edged.testing.providers import ProviderOnDevice
from edged.testing.recognizers import CHECKS as RECOGNIZER
from edged.testing.recognizers import RecognizerWithModel
from edged.workers import split

WORDS = {
    "edged_execution_providers": "provider",
    "edged_recognizers": "recogniser",
    "edged_voice_detectors": "detector",
    "edged_policies": "policy",
    "edged_audio_sources": "source",
    "edged_transcript_sinks": "sink",
    "edged_api_routers": "routers",
    "edged_cli_commands": "commands",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One check of one thing."""

    subject: str
    check: Check
    thing: Any

    def run(self) -> Result:
        return self.check.run(self.subject, self.thing)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be checked."""

    name: str
    model: str | None = None
    device: str | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)
    """`Configuration.provider_options()`"""


def find(wish: Wish) -> list[tuple[Plugin, str | None, Any]]:
    """The plugins of that name with all they supply, and whatever is called so itself.

    The hook is None for a plugin as such. Raises EdgedError naming what there is.
    """
    installed = Plugins.discover()
    name, _ = split(wish.name)
    found: list[tuple[Plugin, str | None, Any]] = []
    for plugin in installed.all:
        things = list(_things(plugin))
        if plugin.name != name:
            things = [(hook, item) for hook, item in things if _name(hook, item) == name]
        if things or plugin.name == name:
            found += [(plugin, None, plugin), *((plugin, hook, item) for hook, item in things)]
    if not found:
        raise EdgedError(
            f"Nothing is called {wish.name}. Installed: {', '.join(_names(installed))}",
            code="plugin_missing",
        )
    return found


def _things(plugin: Plugin) -> Iterator[tuple[str, Any]]:
    """What its hooks returned; routers and commands are the plugin's, and come as one."""
    for hook, items in plugin.supplies.items():
        if NAMED_BY[hook]:
            yield from ((hook, item) for item in items)
        elif items:
            yield hook, plugin


def _name(hook: str, item: Any) -> str:
    attribute = NAMED_BY[hook]
    return getattr(item, attribute) if attribute else ""


def _names(installed: Plugins) -> list[str]:
    names = {plugin.name for plugin in installed.all}
    for plugin in installed.all:
        names |= {_name(hook, item) for hook, item in _things(plugin)} - {""}
    return sorted(names)


def steps(wish: Wish) -> Iterator[Step]:
    """Every check in its order. Asks providers for their devices on the way."""
    require(wish.name, wish.options)
    _, worker = split(wish.name)
    for plugin, hook, item in find(wish):
        if hook is None and worker:
            continue  # a plugin as such is loaded by the daemon, and only there
        if hook is None:
            yield from (Step(f"plugin {plugin.name}", check, plugin) for check in small.PLUGIN)
        else:
            yield from _of(hook, item, wish)


def _of(hook: str, item: Any, wish: Wish) -> Iterator[Step]:
    if hook == "edged_execution_providers":
        yield from _on_devices(item, wish)
        return
    thing: Any = item
    if hook == "edged_recognizers":
        checks, thing = RECOGNIZER, RecognizerWithModel(item, wish.model)
    elif hook == "edged_transcript_sinks":
        from edged.config import default_file, load

        settings = load(default_file()).sinks.get(item.name, {})
        checks, thing = small.SINK, small.SinkWithSettings(item, settings)
    else:
        checks = {
            "edged_voice_detectors": small.DETECTOR,
            "edged_policies": small.POLICY,
            "edged_audio_sources": small.SOURCE,
            "edged_api_routers": small.ROUTER,
            "edged_cli_commands": small.COMMAND,
        }[hook]
    name = _name(hook, item) or item.name
    yield from (Step(f"{WORDS[hook]} {name}", check, thing) for check in checks)


def _on_devices(provider: Any, wish: Wish) -> Iterator[Step]:
    """Raises EdgedError when a wished device is not there, or none at all."""
    _, worker = split(wish.name)
    name = f"{provider.name}@{worker}" if worker else provider.name
    devices = [d for d in provider.probe() if wish.device in {None, d.name}]
    if not devices:
        what = f"no device {wish.device}" if wish.device else "no device"
        raise EdgedError(f"{name} has {what} here", code="device_missing")
    for device in devices:
        thing = ProviderOnDevice(provider, device, wish.model)
        for check in PROVIDER:
            yield Step(f"provider {name} on {device.name}", check, thing)
