"""What `edged models inspect` and `edged models quantize` found, for people."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edged.probe_table import NARROWEST

if TYPE_CHECKING:
    from edged.engine.placement import Placement
    from edged.inspection import Inspection
    from edged.models.anatomy import GraphReport
    from edged.models.derive import LayerReport, QuantizationReport

WORST = 12
"""Layers that are shown"""


def show_inspection(found: Inspection) -> None:
    """Print graphs, operators and places."""
    console = Console(width=None if sys.stdout.isatty() else NARROWEST, highlight=False)
    console.print(_graphs(found.graphs))
    for graph in found.graphs:
        for line in _lines(graph):
            console.print(line)
    console.print(_places(found.placements))


def _graphs(graphs: Sequence[GraphReport]) -> Table:
    heading = ("graph", "MB", "parameters", "sizes", "products", "FLOP", "FLOP/byte")
    return _table(heading, [tuple(_cells(graph)) for graph in graphs])


def _cells(graph: GraphReport) -> Iterator[str]:
    yield graph.file
    yield f"{graph.bytes / 1e6:.1f}"
    yield _millions(graph.parameters)
    yield ", ".join(f"{name} {size}" for name, size in graph.sizes.items()) or "fixed"
    yield _millions(graph.multiplications)
    yield _millions(graph.operations)
    yield "-" if graph.intensity is None else f"{graph.intensity:.1f}"


def _millions(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.1f} M"


def _lines(graph: GraphReport) -> Iterator[str]:
    """Weights and operators."""
    weights = ", ".join(f"{kind} {size / 1e6:.1f} MB" for kind, size in graph.weights.items())
    yield f"[bold]{escape(graph.file)}[/]: weights {escape(weights)}"
    yield f"  {_counted(graph.operators, graph.fused)}"
    if graph.optimized:
        yield f"  as ONNX Runtime runs it: {_counted(graph.optimized)}"
    if graph.reason:
        yield f"  its cost is not known: {escape(graph.reason)}"


def _counted(operators: Mapping[str, int], fused: Collection[str] = ()) -> str:
    listed = ", ".join(
        f"{kind}{' (fused)' if kind in fused else ''} {count}" for kind, count in operators.items()
    )
    return escape(f"{sum(operators.values())} operators: {listed}")


def _places(placements: Sequence[Placement]) -> Table:
    rows = [
        (
            " ".join(word for word in (p.provider, p.device) if word),
            p.file or "-",
            p.reason
            or ", ".join(f"{count} on {device}" for device, count in p.operators.items())
            or "it does not tell",
        )
        for p in placements
    ]
    return _table(("provider", "graph", "operators that it runs"), rows)


def show_quantization(report: QuantizationReport) -> None:
    """Print what a model gained and lost, and what to do with it."""
    console = Console(width=None if sys.stdout.isatty() else NARROWEST, highlight=False)
    console.print(_measures(report))
    if any(layer.loss is not None for layer in report.layers):
        console.print(_losses(report.layers))
    for line in _sentences(report):
        console.print(escape(line), soft_wrap=True)


def _measures(report: QuantizationReport) -> Table:
    rows = [
        (
            name,
            f"{measure.bytes / 1e6:.1f}",
            f"{measure.seconds_per_second:.4f}",
            _percent(measure.word_error_rate),
        )
        for name, measure in (
            (f"{report.source} fp32", report.before),
            (_name(report), report.after),
        )
    ]
    return _table(("model", "MB", "s for a s of audio", "word errors"), rows)


def _name(report: QuantizationReport) -> str:
    calibrated = f" {report.calibrate}" if report.calibrate else ""
    return f"{report.model} {report.method}{calibrated}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _losses(layers: Sequence[LayerReport]) -> Table:
    """Those that lose most for what they save."""
    worst = sorted(layers, key=lambda layer: -(layer.share or 0.0) / layer.bytes)[:WORST]
    rows = [
        (
            layer.graph,
            layer.name,
            f"{layer.bytes / 1e6:.2f}",
            f"{layer.loss:.5f}" if layer.loss is not None else "-",
            _percent(layer.share),
            "float32" if layer.kept else "quantised",
        )
        for layer in worst
    ]
    return _table(("graph", "layer", "MB", "loss alone", "share", "is"), rows)


def _sentences(report: QuantizationReport) -> Iterator[str]:
    difference = f"{report.text_difference:.1%} of {report.words} words"
    yield f"It writes {difference} otherwise than float32 ({report.judged_on})."
    yield f"It is {report.speed_ratio:.2f} times as fast as float32, on one thread."
    kept = [layer.name for layer in report.layers if layer.kept]
    if kept:
        yield f"In float32 stay: {', '.join(kept)}"
    if report.refusal:
        yield f"A proof will refuse it: {report.refusal}"
    else:
        yield f"It passes the gate: {report.gate_error_rate:.1%} of the words otherwise."
    asked = f"EDGED_ENGINE_MODEL={report.model} EDGED_ENGINE_PRECISION={report.precision}"
    yield f"Use it: {asked} edged transcribe FILE"


def _table(heading: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in heading:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
