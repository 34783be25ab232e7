"""A result as pictures, for who has matplotlib: `pip install 'edged[bench]'`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edged.bench import figures
from edged.bench.concurrency import BOUND_SECONDS
from edged.bench.result import LATENCY, Result, unwritable
from edged.errors import EdgedError

SIZE = (8.0, 4.5)
"""Inches"""
FORMATS = ("svg", "png")
ROLES = ("daemon", "worker")


def require(format: str) -> None:
    """Before anything is measured. Raises EdgedError."""
    if format not in FORMATS:
        raise EdgedError(f"{format!r} is no format of plots; use svg or png", code="bad_format")
    if importlib.util.find_spec("matplotlib") is None:
        raise EdgedError(
            "Plots need matplotlib. Run: pip install 'edged[bench]'", code="no_matplotlib"
        )


def draw(result: Result, folder: Path, format: str) -> list[Path]:
    """A picture of each kind for which there are figures; where they are. Raises EdgedError."""
    require(format)
    return [
        _save(name, paint, result, folder / f"{name}.{format}")
        for name, (paint, is_there) in PICTURES.items()
        if is_there(result)
    ]


def _save(name: str, paint: Callable[[Result, Any], None], result: Result, path: Path) -> Path:
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "edged"  # the same figures make the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
    paint(result, axes)
    axes.set_title(f"{name}: {result.rung}, {result.environment['cpu']}", fontsize="small")
    axes.grid(alpha=0.3)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata=metadata)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        pyplot.close(figure)
    return path


def _latency(result: Result, axes: Any) -> None:
    """The share of texts that are there by then."""
    for series in result.series:
        if series.statistics == LATENCY:
            values = np.sort([one.value for one in series.observations])
            shares = np.arange(1, len(values) + 1) / len(values)
            axes.step(values, shares, where="post", label=series.name)
    axes.set(xlabel="seconds", ylabel="share that took no longer", ylim=(0, 1.02))
    axes.set_xlim(left=0)
    axes.legend(fontsize="small")


def _concurrency(result: Result, axes: Any) -> None:
    levels = sorted(result.levels, key=lambda level: level.streams)
    for name, marker in (("p95", "o-"), ("p50", "s--")):
        known = [(v.streams, y) for v in levels if (y := getattr(v, f"final_{name}")) is not None]
        axes.plot(*zip(*known, strict=True), marker, label=f"{name} of the finals")
    axes.axhline(BOUND_SECONDS, color="red", linewidth=1, label="bound")
    broken = [level.streams for level in levels if not level.kept]
    axes.plot(broken, [BOUND_SECONDS] * len(broken), "rx", label="bound broken, or not all served")
    axes.set(xlabel="streams at once", ylabel="seconds from the end of speech", xscale="log")
    axes.set_xticks([level.streams for level in levels])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(_nothing())
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")


def _nothing() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _roofline(result: Result, axes: Any) -> None:
    assert result.roofline is not None
    found = result.roofline
    points = [graph.operations_per_byte for graph in found.graphs.values()]
    ridge = found.peaks.measured_gigaflops / found.peaks.measured_gigabytes_per_second
    intensities = np.geomspace(min([*points, ridge]) / 4, max([*points, ridge]) * 4, 200)
    axes.plot(intensities, [found.roof(each)[0] for each in intensities], color="black")
    axes.annotate(
        f"memory: {found.peaks.measured_gigabytes_per_second:.0f} GB/s (one thread copies)",
        (intensities[20], found.roof(intensities[20])[0]),
        xytext=(10, -4),
        textcoords="offset points",
        fontsize="small",
    )
    axes.annotate(
        f"compute: {found.peaks.measured_gigaflops:.0f} GFLOP/s (float32, all cores)",
        (intensities[-1], found.peaks.measured_gigaflops),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
        fontsize="small",
    )
    axes.set_ylim(top=2 * found.peaks.measured_gigaflops)
    for name, graph in found.graphs.items():
        place = (graph.operations_per_byte, graph.gigaflops)
        axes.plot(*place, "o")
        axes.annotate(
            f"{name}: {graph.gigaflops:.0f} GFLOP/s",
            place,
            xytext=(6, -12),
            textcoords="offset points",
            fontsize="small",
        )
    axes.set(xscale="log", yscale="log", xlabel="operations a byte of weights", ylabel="GFLOP/s")


def _memory(result: Result, axes: Any) -> None:
    """The processes on top of each other."""
    moments = ("ready", "after speech")
    bottom = np.zeros(len(moments))
    for role in ROLES:
        found = (result.of(f"memory {moment}, {role}") for moment in moments)
        sizes = [(figures.statistic(one, "mean") if one else None) or 0.0 for one in found]
        bars = axes.bar(moments, sizes, 0.5, bottom=bottom, label=role)
        axes.bar_label(bars, fmt="{:.0f}", label_type="center")
        bottom += np.array(sizes)
    axes.set_ylabel("MB (PSS)")
    axes.legend(fontsize="small")


PICTURES: dict[str, tuple[Callable[[Result, Any], None], Callable[[Result], bool]]] = {
    "latency": (_latency, lambda result: any(s.statistics == LATENCY for s in result.series)),
    "concurrency": (_concurrency, lambda result: any(v.final_p95 for v in result.levels)),
    "roofline": (_roofline, lambda result: result.roofline is not None),
    "memory": (_memory, lambda result: result.of("memory ready") is not None),
}
