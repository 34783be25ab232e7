"""What each provider offers here: asked in a process that may crash.

python -m edged.engine.probe        JSON on stdout
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import msgspec

from edged.errors import EdgedError

PROBE_SECONDS = 30.0


class ProviderReport(msgspec.Struct, frozen=True):
    """One provider's answer."""

    name: str
    version: str | None
    devices: list[str]
    error: str | None = None


def probe() -> list[ProviderReport]:
    """Ask every provider, in this process."""
    from edged.plugins import Plugins

    return [_ask(provider) for provider in Plugins.discover().providers()]


def _ask(provider: Any) -> ProviderReport:
    try:
        devices = [device.name for device in provider.probe()]
        return ProviderReport(provider.name, provider.version(), devices)
    except Exception as error:  # noqa: BLE001  a stranger's code
        message = error.message if isinstance(error, EdgedError) else repr(error)
        return ProviderReport(provider.name, None, [], message)


async def probe_apart() -> list[ProviderReport]:
    """Ask every provider, in a process of its own."""
    reports: list[ProviderReport] = await run_apart(
        "edged.engine.probe", list[ProviderReport], PROBE_SECONDS
    )
    return reports


async def run_apart(module: str, kind: Any, timeout: float) -> Any:
    """Run one of our modules and read its JSON. Raises EdgedError with its last line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise EdgedError(f"{module} did not answer in {timeout:.0f} s", code="probe") from error
    if process.returncode:
        lines = err.decode("utf-8", "replace").strip().splitlines()
        raise EdgedError(lines[-1] if lines else f"{module} died", code="probe")
    return msgspec.json.decode(out, type=kind)


def main() -> None:
    # Libraries that print must not spoil the JSON.
    out = os.dup(1)
    os.dup2(2, 1)
    with open(out, "wb") as stream:  # noqa: PTH123  a descriptor
        stream.write(msgspec.json.encode(probe()))


if __name__ == "__main__":
    main()
