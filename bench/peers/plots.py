"""docs/benchmarks/*.svg from docs/benchmarks.json. Needs matplotlib: the extra `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.peers.streams import BOUND_SECONDS
from bench.peers.systems import OURS

Row = dict[str, Any]
SIZE = (8.0, 4.5)
"""Inches"""


def draw(document: Row, folder: Path) -> None:
    """Write the pictures. Raises SystemExit where matplotlib is missing."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise SystemExit("plots need matplotlib; run: pip install 'edged[bench]'") from None
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "edged"  # the same figures make the same file
    folder.mkdir(parents=True, exist_ok=True)
    rows = document["systems"]
    for name, plot in (("latency", _latency), ("cost", _cost), ("streams", _streams)):
        _picture(folder / f"{name}.svg", plot, rows)


def _picture(path: Path, plot: Any, rows: Sequence[Row]) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
    plot(axes, rows)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _width(row: Row) -> float:
    return 2.5 if row["name"] == OURS else 1.2


def _latency(axes: Any, rows: Sequence[Row]) -> None:
    """The share of finals that had come, by time."""
    for row in rows:
        if finals := row.get("finals"):
            shares = [(n + 1) / len(finals) for n in range(len(finals))]
            axes.step(finals, shares, where="post", label=row["name"], linewidth=_width(row))
    axes.set(
        xlabel="seconds after the end of speech",
        ylabel="share of finals",
        xlim=(0, None),
        ylim=(0, 1.02),
    )


def _cost(axes: Any, rows: Sequence[Row]) -> None:
    """What a second of audio costs, against how long one waits."""
    for row in rows:
        if row.get("final", {}).get("p50") is not None:
            axes.scatter(row["final"]["p50"], row["cpu"], s=30 * _width(row), label=row["name"])
    axes.set(xlabel="final after the end of speech, p50, seconds", xlim=(0, None))
    axes.set(ylabel="CPU seconds a second of audio", ylim=(0, None))


def _streams(axes: Any, rows: Sequence[Row]) -> None:
    """How late finals are with more and more streams."""
    for row in rows:
        steps = [step for step in row.get("steps", []) if step["p95"] is not None]
        points = [step["admitted"] for step in steps], [step["p95"] for step in steps]
        if steps:
            axes.plot(*points, marker="o", label=row["name"], linewidth=_width(row))
    axes.axhline(BOUND_SECONDS, color="grey", linestyle=":")
    axes.set(xlabel="streams at once", ylabel="final latency, p95, seconds", ylim=(0, None))
