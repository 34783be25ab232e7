"""A picture of a soak, as SVG: what was used, how late finals came, and when something failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH, LEFT, RIGHT = 960, 90, 20
PANEL, SPACE, HEAD = 150, 46, 60
"""Heights: of a panel, between two, above the first"""
ROW = 16
"""Height of a kind of fault"""
INK, FAINT = "#24292f", "#d8dee4"
COLOURS = ("#0969da", "#bf3989", "#1a7f37")
Points = Sequence[tuple[float, float]]
"""Minutes, and values"""


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a result of bench.soak."""
    path.write_text("\n".join(_picture(document["soak"])) + "\n", "utf-8")


def _picture(soak: Mapping[str, Any]) -> Iterator[str]:
    minutes = soak["minutes"]
    panels = list(_panels(soak))
    kinds = list(dict.fromkeys(kind for _, kind in soak["fault_times"]))
    height = HEAD + len(panels) * (PANEL + SPACE) + len(kinds) * ROW + 30
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">'
    )
    yield f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    title = f"{minutes:.0f} minutes, a fault every {_every(soak):.0f} seconds"
    yield f'<text x="{LEFT}" y="26" font-size="16" font-weight="600">{title}</text>'
    top = float(HEAD)
    for heading, lines, dotted in panels:
        yield from _panel(heading, lines, dotted, top, minutes)
        top += PANEL + SPACE
    yield from _faults(soak["fault_times"], kinds, top - 10, minutes)
    yield "</svg>"


def _every(soak: Mapping[str, Any]) -> float:
    times = [at for at, _ in soak["fault_times"]]
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0


def _panels(soak: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Points], bool]]:
    """Heading, lines by name, and whether they are dots instead."""
    samples = soak["samples"]

    def over_time(values: Any) -> Points:
        return [(s["at"] / 60, v) for s in samples if (v := values(s)) is not None]

    yield (
        "memory of each process, MB",
        {
            name: over_time(lambda sample, name=name: sample["memory"].get(name))
            for name in ("daemon", "worker", "capture")
        },
        False,
    )
    lags = {
        f"{name}": [(at / 60, min(lag, 10.0)) for at, lag in found]
        for name, found in soak["lags"].items()
    }
    yield "seconds from the end of speech to its final (10 and more at 10)", lags, True
    yield (
        "file descriptors and threads of all processes",
        {name: over_time(lambda s, name=name: s[name]) for name in ("descriptors", "threads")},
        False,
    )


def _panel(
    heading: str, lines: Mapping[str, Points], dotted: bool, top: float, minutes: float
) -> Iterator[str]:
    most = max((value for points in lines.values() for _, value in points), default=1.0)
    step = _step(most)
    most = step * -(-most // step)

    def place(at: float, value: float) -> tuple[float, float]:
        return _x(at, minutes), top + PANEL * (1 - value / most)

    yield f'<text x="{LEFT}" y="{top - 10}" font-weight="600">{heading}</text>'
    for tick in range(round(most / step) + 1):
        _, y = place(0, tick * step)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{FAINT}"/>'
        label = f"{tick * step:g}"
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number]
        x = WIDTH - RIGHT - 90 * (len(lines) - number)
        yield f'<text x="{x + 14}" y="{top - 10}" fill="{colour}">{name}</text>'
        yield f'<rect x="{x}" y="{top - 18}" width="9" height="9" fill="{colour}"/>'
        placed = [place(at, value) for at, value in points]
        yield from _dots(placed, colour) if dotted else _line(placed, colour)


def _dots(points: Points, colour: str) -> Iterator[str]:
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.6" fill="{colour}" fill-opacity=".6"/>'


def _line(points: Points, colour: str) -> Iterator[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.2"/>'


def _faults(
    times: Sequence[tuple[float, str]], kinds: Sequence[str], top: float, minutes: float
) -> Iterator[str]:
    for row, kind in enumerate(kinds):
        y = top + row * ROW
        yield f'<text x="{LEFT - 8}" y="{y + 10}" text-anchor="end" font-size="9">{kind}</text>'
        marks = "".join(f"M{_x(at / 60, minutes):.1f} {y}v11" for at, one in times if one == kind)
        yield f'<path d="{marks}" stroke="{INK}"/>'
    bottom = top + len(kinds) * ROW + 16
    for minute in range(0, round(minutes) + 1, max(1, round(minutes / 6))):
        label = f"{minute} min" if minute else "0"
        x = _x(minute, minutes)
        yield f'<text x="{x:.1f}" y="{bottom}" text-anchor="middle">{label}</text>'


def _x(minute: float, minutes: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * minute / minutes


def _step(most: float) -> float:
    """A round distance of some four lines."""
    rough = max(most, 1e-9) / 4
    size = 10.0 ** len(str(int(rough))[1:]) if rough >= 1 else 0.1
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
