"""What `edged probe` found, for people."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edged.engine.ask import ProviderReport
from edged.engine.probe import ProbeReport
from edged.engine.prove import Verdict
from edged.hardware.accelerators import Accelerator
from edged.hardware.explain import Obstacle
from edged.hardware.machine import Machine

EXIT_CODES = {"works": 0, "degraded": 1, "nothing": 2}
_COLOURS = {"works": "green", "degraded": "yellow", "nothing": "red"}
_FIGURES = ("word\nerrors", "ms\np50/p99", "x real\ntime", "MB", "% of peak\nflop/byte")
NARROWEST = 110
"""Columns of the output where no terminal tells how many there are"""


def show(report: ProbeReport) -> None:
    """Print a report: the machine, the rungs, what is in the way, and what it comes to."""
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else NARROWEST, highlight=False)
    _show_machine(console, report)
    if report.verdicts:
        console.print(_rungs(report.verdicts))
    _show_reasons(console, report)
    for obstacle in report.obstacles:
        _show_obstacle(console, obstacle)
    colour = _COLOURS[report.status]
    console.print(f"[bold {colour}]{escape(report.sentence)}[/]", soft_wrap=True)


def _show_machine(console: Console, report: ProbeReport) -> None:
    machine = report.machine
    model = machine.board.model or "Unknown board"
    console.print(f"[bold]{escape(model)}[/], {machine.architecture}, Linux {machine.kernel}")
    console.print(escape(_processor(machine)), soft_wrap=True)
    for accelerator in machine.accelerators:
        console.print(escape(_accelerator(accelerator)), soft_wrap=True)
    profile = f"Profile {report.profile.name} ({report.profile.reason})"
    console.print(escape(", ".join([profile, *_peaks(report)])), soft_wrap=True)


def _processor(machine: Machine) -> str:
    cpu, memory = machine.cpu, machine.memory
    cores = f"{cpu.cores} cores" + (f", {cpu.threads} threads" * (cpu.threads != cpu.cores))
    size = f"{(memory.limit_bytes or memory.total_bytes) / 1e9:.1f} GB"
    features = " ".join(cpu.features) or "no vector features"
    return f"{cpu.name}, {cores}, {size} of memory; {features}"


def _accelerator(accelerator: Accelerator) -> str:
    driver = accelerator.driver or "none"
    version = f" {accelerator.driver_version}" if accelerator.driver_version else ""
    return f"{accelerator.name} ({accelerator.id}, {accelerator.address}, driver {driver}{version})"


def _peaks(report: ProbeReport) -> Iterator[str]:
    peaks = report.peaks
    if peaks:
        yield f"measured peak {peaks.measured_gigaflops:.0f} GFLOP/s in float32"
        if peaks.theoretical_gigaflops:
            yield f"theoretical {peaks.theoretical_gigaflops:.0f}"
        yield f"{peaks.measured_gigabytes_per_second:.0f} GB/s measured"


def _rungs(verdicts: list[Verdict]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("rung", no_wrap=True)
    table.add_column("proof", overflow="fold")
    for heading in _FIGURES:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("placed", overflow="fold")
    for model, group in itertools.groupby(verdicts, lambda verdict: verdict.rung.model):
        table.add_row(f"[bold]{escape(model)}[/]")
        for verdict in group:
            table.add_row(*_cells(verdict))
        table.add_section()
    return table


def _cells(verdict: Verdict) -> Iterator[str]:
    rung = verdict.rung
    yield escape(f"{rung.precision} {rung.provider} {rung.device}")
    yield f"[{_colour(verdict)}]{escape(verdict.code or 'proven')}[/]"
    longer = verdict.gate_error_rate
    yield _percent(verdict.word_error_rate if longer is None else longer, " %")
    yield _pair(_milliseconds(verdict.warm_p50_seconds), _milliseconds(verdict.warm_p99_seconds))
    yield f"{1 / verdict.real_time_factor:.0f}" if verdict.real_time_factor else ""
    yield f"{verdict.peak_memory_bytes / 1e6:.0f}" if verdict.peak_memory_bytes else ""
    yield _pair(_percent(verdict.gigaflops_share), _percent(verdict.gigabytes_share))
    yield escape(", ".join(f"{count} {device}" for device, count in verdict.placement.items()))


def _colour(verdict: Verdict) -> str:
    if not verdict.ok:
        return "red"
    return "yellow" if verdict.code else "green"


def _percent(share: float | None, unit: str = "") -> str:
    return "" if share is None else f"{share * 100:.0f}{unit}"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.0f}"


def _pair(first: str, second: str) -> str:
    return f"{first}/{second}" if first or second else ""


def _show_reasons(console: Console, report: ProbeReport) -> None:
    """Why rungs and providers are refused, what was left out, and how old the oldest proof is."""
    refused = [f"{v.rung}: {v.code}: {v.reason}" for v in report.verdicts if v.code]
    silent = [_without_devices(p) for p in report.providers if p.error or not p.devices]
    lying = [f"{p.name}: {p.conflict}" for p in report.providers if p.conflict]
    lines = [*refused, *silent, *lying, *report.notes]
    if report.verdicts:
        oldest = min(verdict.time for verdict in report.verdicts)
        lines.append(f"The oldest proof is {_age(time.time() - oldest)} old; anew: --fresh")
    for line in lines:
        console.print(escape(line), soft_wrap=True)
    if lines:
        console.print()


def _without_devices(provider: ProviderReport) -> str:
    return f"{provider.name}: {provider.error or 'it finds no device here'}"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _show_obstacle(console: Console, obstacle: Obstacle) -> None:
    """The remedy has a line of its own, whole, to be copied."""
    console.print(
        f"[yellow]{obstacle.device}: {obstacle.code}[/]: {escape(obstacle.sentence)}",
        soft_wrap=True,
    )
    console.print(f"    {escape(obstacle.remedy)}\n", soft_wrap=True)
