"""What a provider offers here, asked in a process that may crash.

python -m edged.engine.ask PROVIDER JSON   the answer as JSON on stdout
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from edged import elsewhere
from edged.engine.process import kill_group, signal_name
from edged.engine.wheels import conflict
from edged.errors import EdgedError
from edged.parent import answer_only
from edged.plugins import Plugins
from edged.provider import devices

ASK_SECONDS = 30.0


class ProviderReport(msgspec.Struct, frozen=True):
    """One provider's answer."""

    name: str
    version: str | None
    devices: list[str]
    error: str | None = None
    computes: dict[str, list[str]] = {}
    """By device the precisions that it computes float32's files in"""
    conflict: str | None = None
    """Which of its packages lie over each other, and what mends it"""


# -- in the process that may be lost --------------------------------------------------------------


def ask(provider: Any, extra: Mapping[str, Any]) -> ProviderReport:
    """What a provider offers with its section of the configuration, asked in this process."""
    lying = None
    try:
        lying = conflict(provider.packages)
        found = devices(provider, extra)
        computes = {device.name: list(device.computes) for device in found if device.computes}
        names = [device.name for device in found]
        version = provider.version()
        return ProviderReport(provider.name, version, names, None, computes, lying)
    except Exception as error:  # noqa: BLE001  a stranger's code
        message = error.message if isinstance(error, EdgedError) else repr(error)
        return ProviderReport(provider.name, None, [], message, conflict=lying)


def main() -> None:
    out = answer_only()
    name, extra = sys.argv[1:]
    provider = Plugins.discover().provider(name)
    report = ask(provider, msgspec.json.decode(extra).get(provider.name, {}))
    with open(out, "wb") as stream:  # noqa: PTH123  a descriptor
        stream.write(msgspec.json.encode(report))


# -- for the one who asks -------------------------------------------------------------------------


async def ask_all(extra: elsewhere.Options) -> list[ProviderReport]:
    """Ask every provider, each in a process of its own: one that crashes takes no other along.

    `extra` holds their sections of the configuration. Workers that run none are told too.
    """
    plugins = Plugins.discover()
    names = [provider.name for provider in plugins.providers()]
    names += elsewhere.providers(plugins, extra)
    useless = elsewhere.useless(plugins, extra).items()
    asked = (_ask_apart(name, extra) for name in names)
    return [
        *await asyncio.gather(*asked),
        *(ProviderReport(f"@{worker}", None, [], reason) for worker, reason in useless),
    ]


async def _ask_apart(name: str, extra: elsewhere.Options) -> ProviderReport:
    try:
        report: ProviderReport = await run_apart(
            "edged.engine.ask",
            ProviderReport,
            ASK_SECONDS,
            name,
            msgspec.json.encode(extra).decode(),
            python=elsewhere.interpreter(name, extra),
        )
    except EdgedError as error:
        return ProviderReport(name, None, [], error.message)
    return msgspec.structs.replace(report, name=name)


async def run_apart(
    module: str,
    kind: Any,
    timeout: float,
    *arguments: str,
    python: elsewhere.Interpreter | None = None,
) -> Any:
    """Run one of our modules and read its JSON. Raises EdgedError with its last line."""
    process = await asyncio.create_subprocess_exec(
        python.python if python else sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=python.environment if python else None,
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError as error:
        raise EdgedError(f"{module} did not answer in {timeout:.0f} s", code="probe") from error
    finally:
        await kill_group(process)
    if process.returncode:
        lines = err.decode("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else f"{module} died"
        code = process.returncode
        raise EdgedError(f"{signal_name(-code)}: {last}" if code < 0 else last, code="probe")
    try:
        return msgspec.json.decode(out, type=kind)
    except msgspec.DecodeError as error:
        raise EdgedError(f"{module} left without an answer", code="probe") from error


if __name__ == "__main__":
    main()
