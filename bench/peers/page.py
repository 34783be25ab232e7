"""docs/benchmarks.md from docs/benchmarks.json: nothing in it is typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from bench.peers import targets

Row = dict[str, Any]
HEADING = "<!-- Written by `python -m bench.peers --write`: edit bench/peers/page.py. -->\n"
INTRODUCTION = """
# Beside the others

One run on one machine: {cpu}, {cores} cores, Python {python}, edged {revision}. One system hears
at a time; each recording goes to all of them, one after the other, each time to another one first.
Made by `{command}`; figures in [benchmarks.json](benchmarks.json), what they mean in
[bench/README.md](../bench/README.md#peers). In each table the best is first.

Versions: {versions}.
"""
SKIPPED = "\n## Not measured\n\n| | why |\n| --- | --- |\n"


def render(document: Row) -> str:
    """The whole page."""
    rows = document["systems"]
    return "".join(
        (
            HEADING,
            _introduction(document),
            _targets(document),
            "\n## Latency\n\n",
            _caption(rows, "recordings", "recordings at the pace of time; seconds."),
            _table(rows, LATENCY, lambda row: row["final"]["p50"]),
            "\n![Final latency of each system](benchmarks/latency.svg)\n",
            "\n## Cost\n\n",
            _table(rows, COST, lambda row: row["cpu"]),
            "\n![CPU against final latency](benchmarks/cost.svg)\n",
            "\n## Offline\n\n",
            _caption(rows, "offline_recordings", "whole recordings (fewer on one core)."),
            _table(rows, OFFLINE, lambda row: row["one_core"]),
            "\n## Streams at once\n\n",
            "The most that had 95 of 100 finals within a second; the next step failed, or was "
            "refused.\n\n",
            _table(rows, STREAMS, lambda row: -row["carried"]),
            "\n![Final latency against streams](benchmarks/streams.svg)\n",
            _skipped(document["skipped"]),
        )
    )


Column = tuple[str, Callable[[Row], str]]


def _introduction(document: Row) -> str:
    said = {**document["environment"], "versions": ", ".join(document["versions"])}
    return INTRODUCTION.format(command=document["command"], **said).lstrip()


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _of(name: str, form: str, *path: str) -> Column:
    def cell(row: Row) -> str:
        value: Any = row
        for key in path:
            value = (value or {}).get(key)
        return _figure(value, form)

    return name, cell


def _then(row: Row, field: str, form: str) -> str:
    """Of the step with the most streams that were carried."""
    steps = [step for step in row.get("steps", []) if step["admitted"] == row["carried"]]
    return _figure(steps[0][field], form) if steps else "-"


def _next(row: Row) -> str:
    later = [step for step in row.get("steps", []) if step["streams"] > row["carried"]]
    if not later:
        return "none tried" if row.get("steps") else "-"
    admitted, count, p95 = (later[0][key] for key in ("admitted", "streams", "p95"))
    if admitted < count:
        return f"{admitted} of {count} admitted"
    return f"{count}: " + ("finals missing" if p95 is None else f"p95 {p95:.2f} s")


NAME: Column = ("", lambda row: row["name"])
WEIGHTS: Column = ("weights", lambda row: row["weights"])
LATENCY: Sequence[Column] = (
    NAME,
    WEIGHTS,
    _of("final p50", ".2f", "final", "p50"),
    _of("p95", ".2f", "final", "p95"),
    _of("p99", ".2f", "final", "p99"),
    _of("first partial", ".2f", "first_partial"),
    _of("interval", ".2f", "interval"),
    _of("flicker", ".2f", "flicker"),
    _of("finals an utterance", ".2f", "finals_each"),
    _of("word errors", ".1%", "wer"),
    _of("ended early", "d", "early"),
    _of("mute", "d", "mute"),
)
COST: Sequence[Column] = (
    NAME,
    _of("CPU s a second", ".2f", "cpu"),
    _of("PSS MB", ".0f", "memory"),
    ("model MB", lambda row: _figure(row.get("model_bytes") and row["model_bytes"] / 1e6, ".0f")),
    _of("idle, silence %", ".1f", "silence"),
    _of("idle, noise %", ".1f", "noise"),
    _of("ready s", ".2f", "ready"),
)
OFFLINE: Sequence[Column] = (
    NAME,
    WEIGHTS,
    _of("s a second, one core", ".4f", "one_core"),
    _of("all cores", ".4f", "all_cores"),
    _of("word errors", ".1%", "offline_wer"),
)
STREAMS: Sequence[Column] = (
    NAME,
    _of("streams", "d", "carried"),
    ("p95 then, s", lambda row: _then(row, "p95", ".2f")),
    ("finals an utterance", lambda row: _then(row, "finals_each", ".2f")),
    ("next step", _next),
)


def _caption(rows: Sequence[Row], field: str, text: str) -> str:
    counts = sorted({row[field] for row in rows if row.get(field)})
    return f"{' or '.join(str(count) for count in counts)} {text}\n\n" if counts else ""


def _table(rows: Sequence[Row], columns: Sequence[Column], order: Callable[[Row], Any]) -> str:
    """All systems that have a figure in it, the best first, those without the figure that it is
    sorted by last."""
    lines = [[cell(row) for _, cell in columns] for row in sorted(rows, key=_placed(order))]
    figures = [n for n, column in enumerate(columns) if column not in (NAME, WEIGHTS)]
    there = [line for line in lines if any(line[n] != "-" for n in figures)]
    head = [name for name, _ in columns]
    return _lines([head, ["---"] * len(head), *there])


def _placed(order: Callable[[Row], Any]) -> Callable[[Row], float]:
    def place(row: Row) -> float:
        try:
            figure = order(row)
        except (KeyError, TypeError):
            figure = None
        return inf if figure is None else figure

    return place


def _lines(cells: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _targets(document: Row) -> str:
    judged = targets.judge(document)
    if not judged:
        return ""
    words = {True: "held", False: "**NOT held**", None: "-"}
    rows = [[one.what, one.target, one.measured, words[one.held]] for one in judged]
    head = ["", "target", "measured", ""]
    return "\n## Targets\n\n" + _lines([head, ["---"] * 4, *rows])


def _skipped(skipped: dict[str, str]) -> str:
    rows = [[name, reason.replace("|", "/")] for name, reason in skipped.items()]
    return SKIPPED + _lines(rows) if rows else ""
