"""The runtime's own profile of a session: a file that it writes at the end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edged.errors import ProviderError
from edged.provider import OperatorSpan

NODE, SUFFIX = "Node", "_kernel_time"
MICROSECOND = 1000


class _Arguments(msgspec.Struct, frozen=True):
    op_name: str = ""


class _Entry(msgspec.Struct):
    name: str
    cat: str = ""
    ts: int = 0
    """Microseconds since the profile was begun"""
    dur: int = 0
    tid: int = 0
    args: _Arguments = _Arguments()


_decode = msgspec.json.Decoder(list[_Entry]).decode


def begin(settings: Any, folder: Path, model: Path) -> None:
    """Have a session that is yet to be made write one."""
    settings.enable_profiling = True
    # Of two sessions of a graph that are opened at once, each needs a name of its own.
    settings.profile_file_prefix = str(folder / f"{model.stem}-{secrets.token_hex(4)}")


def end(session: Any) -> Sequence[OperatorSpan]:
    """Take what was written. Raises ProviderError."""
    began = monotonic(session.get_profiling_start_time_ns())
    file = Path(session.end_profiling())
    try:
        entries = _decode(file.read_bytes())
        file.unlink()
    except (OSError, msgspec.DecodeError) as error:
        raise ProviderError(f"onnxruntime's profile {file} cannot be read: {error}") from error
    nodes = (entry for entry in entries if entry.cat == NODE and entry.name.endswith(SUFFIX))
    spans = [_span(began, node) for node in nodes]
    return sorted(spans, key=lambda span: span.start)


def _span(began: int, node: _Entry) -> OperatorSpan:
    start = began + node.ts * MICROSECOND
    name = node.name.removesuffix(SUFFIX)
    return OperatorSpan(name, node.args.op_name, start, start + node.dur * MICROSECOND, node.tid)


def monotonic(nanoseconds: int) -> int:
    """The runtime's clock is CLOCK_REALTIME with one C++ library and CLOCK_MONOTONIC with another:
    that which is nearer."""
    now, here = time.time_ns(), time.monotonic_ns()
    return (
        nanoseconds - now + here
        if abs(now - nanoseconds) < abs(here - nanoseconds)
        else nanoseconds
    )
