"""Results and comparisons, for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edged.bench import figures
from edged.bench.compare import FEWEST_UNITS, Difference
from edged.bench.result import LATENCY, Level, Result, Roofline, Series

NARROWEST = 110
"""Columns of the output where no terminal tells how many there are"""
_COLOURS = {"faster": "green", "better": "green", "slower": "red", "worse": "red"}


def show(result: Result) -> None:
    """Print a result."""
    console = _console()
    for line in _heading(result):
        console.print(escape(line), soft_wrap=True)
    for note in result.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}", soft_wrap=True)
    latencies = [series for series in result.series if series.statistics == LATENCY]
    if latencies:
        console.print(_table(("seconds", "values", *LATENCY), map(_latency, latencies)))
    others = [series for series in result.series if series not in latencies]
    others = [series for series in others if not series.name.startswith("concurrency final")]
    if others:
        console.print(_table(("figure", "", "unit", "values"), map(_figure, others)))
    if result.levels:
        console.print(_table(_LEVELS, map(_level, result.levels)))
    if result.roofline:
        console.print(_table(_ROOFLINE, _roofline(result.roofline)))


def show_comparison(
    found: Sequence[Difference], before: Sequence[Result], after: Sequence[Result]
) -> None:
    """Print what differs between two sides."""
    console = _console()
    for name, side in (("before", before), ("after", after)):
        sides = dict.fromkeys(" on ".join(list(_heading(one))[:2]) for one in side)
        console.print(escape(f"{name}: {'; '.join(sides)}"), soft_wrap=True)
    rows = [_difference(difference) for difference in found]
    heading = ("figure", "", "before", "after", "ratio", "95 % of it", "verdict")
    console.print(_table(heading, rows))
    sure = sum(difference.low is not None for difference in found)
    if min(sum(one.rounds for one in side) for side in (before, after)) < FEWEST_UNITS:
        console.print(
            "Few rounds: what else the machine did during one of them may look like a difference. "
            f"Measure by turns: edged bench --rounds {FEWEST_UNITS} --against PYTHON",
            soft_wrap=True,
        )
    if sure:
        chance = f"Of {sure} figures with an interval about {sure / 20:.1f} differ by chance alone."
        console.print(chance, soft_wrap=True)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else NARROWEST, highlight=False)


def _heading(result: Result) -> Iterator[str]:
    of = result.environment
    revision = f" ({of['revision']})" if of.get("revision") else ""
    yield f"edged {of['edged']}{revision}, {result.rung or 'no rung'}"
    yield f"{of['cpu']}, {of['cores']} cores, Linux {of['kernel']}"
    heard = f"{len(result.recordings)} recordings, {sum(result.recordings.values()):.0f} s"
    yield f"{heard}; {result.rounds} round{'s' * (result.rounds > 1)}"


def _latency(series: Series) -> tuple[str, ...]:
    """A figure for which there are too few values stands in brackets."""
    count = len(series.observations)
    cells = []
    for name in LATENCY:
        value = figures.statistic(series, name)
        few = count < figures.FEWEST.get(name, 1)
        cells.append(f"({_number(value)})" if few else _number(value))
    return series.name, str(count), *cells


def _figure(series: Series) -> tuple[str, ...]:
    [statistic] = series.statistics
    value = _number(figures.statistic(series, statistic))
    return series.name, value, series.unit, str(len(series.observations))


def _number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


_LEVELS = (
    *("streams at once", "p50", "p95", "finals a recording", "client's cores", "kept", "trouble"),
)


def _level(level: Level) -> tuple[str, ...]:
    return (
        str(level.streams),
        _number(level.final_p50),
        _number(level.final_p95),
        f"{level.finals_per_recording:.2f}",
        f"{level.client_processor:.2f}",
        "yes" if level.kept else "no",
        level.trouble,
    )


_ROOFLINE = ("roofline", "FLOP a byte", "GFLOP/s", "at most", "bound by", "share")


def _roofline(found: Roofline) -> Iterator[tuple[str, ...]]:
    for name, graph in found.graphs.items():
        roof, bound = found.roof(graph.operations_per_byte)
        yield (
            name,
            f"{graph.operations_per_byte:.1f}",
            f"{graph.gigaflops:.1f}",
            f"{roof:.1f}",
            bound,
            f"{graph.gigaflops / roof:.0%}",
        )


def _difference(found: Difference) -> tuple[str, ...]:
    interval = "-" if found.low is None else f"{_number(found.low)} to {_number(found.high)}"
    colour = _COLOURS.get(found.verdict)
    verdict = f"[{colour}]{found.verdict}[/]" if colour else found.verdict
    return (
        escape(found.name),
        found.statistic,
        _number(found.before),
        _number(found.after),
        _number(found.ratio),
        interval,
        verdict,
    )


def _table(
    heading: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in heading:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
