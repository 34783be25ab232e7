"""The page is made of the results, all of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bench.peers import page, plots, targets
from bench.peers.results import LASTING, Results
from bench.peers.summary import summarise
from bench.peers.systems import ALONE, systems

DOCS = Path(__file__).parents[3] / "docs"
RECORDED = Path(__file__).with_name("recorded.json")


@pytest.fixture
def document() -> dict[str, Any]:
    """A short run of four systems, as it was kept, summarised."""
    results = Results(RECORDED, _environment(), fresh=False)
    return summarise(results, systems(), "python -m bench.peers --files 2")


def _environment() -> dict[str, Any]:
    environment: dict[str, Any] = json.loads(RECORDED.read_text("utf-8"))["environment"]
    return {key: environment[key] for key in LASTING}


def names(text: str, title: str) -> list[str]:
    """The first column of a table."""
    lines = text.partition(f"## {title}\n")[2].partition("\n## ")[0].splitlines()
    return [line.split("|")[1].strip() for line in lines if line.startswith("| ")][2:]


def row(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in document["systems"] if one["name"] == name)
    return found


def test_every_system_is_in_every_table(document: dict[str, Any]) -> None:
    measured = {one["name"] for one in document["systems"] if one["recordings"]}
    assert len(measured) == 4
    text = page.render(document)
    for title in ("Latency", "Cost", "Streams at once"):
        assert set(names(text, title)) == measured
    assert set(names(text, "Offline")) == measured | {ALONE}
    for name, reason in document["skipped"].items():
        assert f"| {name} | {reason} |" in text


def test_a_system_that_loses_is_shown_as_the_loser(document: dict[str, Any]) -> None:
    row(document, "edged")["final"]["p50"] = 9.0
    row(document, "edged")["carried"] = -1
    text = page.render(document)
    assert names(text, "Latency")[-1] == "edged"
    assert names(text, "Streams at once")[-1] == "edged"
    row(document, "edged")["final"]["p50"] = 0.0
    assert names(page.render(document), "Latency")[0] == "edged"


def test_a_system_without_the_figure_that_is_sorted_by_is_last(document: dict[str, Any]) -> None:
    del row(document, "edged")["one_core"]
    assert names(page.render(document), "Offline")[-1] == "edged"


def test_a_target_that_is_missed_says_so(document: dict[str, Any]) -> None:
    fast = copy.deepcopy(document)
    row(fast, "edged")["final"]["p50"] = 0.39
    judged = {one.what: one for one in targets.judge(fast)}
    assert judged["final after the end of speech, p50"].held
    slow = copy.deepcopy(document)
    row(slow, "edged")["final"]["p50"] = 0.41
    again = {one.what: one for one in targets.judge(slow)}
    assert again["final after the end of speech, p50"].held is False
    assert "under 0.4 s | 0.41 s | **NOT held** |" in page.render(slow)


def test_targets_are_held_against_the_best_peer(document: dict[str, Any]) -> None:
    ours, best = row(document, "edged"), row(document, "sherpa-onnx, 0.1 s endpoint")
    ours["one_core"], best["one_core"] = 0.01, 0.024
    row(document, "pocketsphinx")["one_core"] = 0.011  # other weights
    judged = {one.what: one for one in targets.judge(document)}["offline, one core"]
    assert (judged.measured, judged.held) == ("2.40 times (sherpa-onnx, 0.1 s endpoint)", False)


def test_beyond_capacity_who_was_admitted_keeps_the_bound(document: dict[str, Any]) -> None:
    ours = row(document, "edged")
    good = {"streams": 16, "admitted": 16, "p95": 0.8, "finals_each": 1.1}
    ours["steps"] = [good, {**good, "streams": 24, "admitted": 18}]
    judged = {one.what: one for one in targets.judge(document)}
    assert judged["streams at once"][2:] == ("18", True)
    assert judged["beyond capacity"][2:] == ("18 of 24 admitted, p95 0.80 s", True)
    ours["steps"][1] |= {"admitted": 24, "p95": None}
    judged = {one.what: one for one in targets.judge(document)}
    assert judged["streams at once"][2:] == ("16", True)
    assert judged["beyond capacity"].held is False


def test_what_was_not_measured_is_not_held(document: dict[str, Any]) -> None:
    for field in ("steps", "memory", "final", "one_core", "flicker"):
        row(document, "edged").pop(field)
    judged = targets.judge(document)
    assert {one.held for one in judged if one.measured == "not measured"} == {None}
    assert page.render(document)


def test_without_edged_there_are_no_targets(document: dict[str, Any]) -> None:
    document["systems"] = [one for one in document["systems"] if one["name"] != "edged"]
    assert "## Targets" not in page.render(document)


def test_the_plots(document: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plots.draw(document, tmp_path)
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(drawn) == {"latency.svg", "cost.svg", "streams.svg"}
    plots.draw(document, tmp_path / "again")
    assert {path.name: path.read_text() for path in (tmp_path / "again").iterdir()} == drawn


def test_the_page_in_docs_is_what_its_figures_say() -> None:
    figures = DOCS / "benchmarks.json"
    if not figures.exists():
        pytest.skip("nothing was measured yet: python -m bench.peers --write")
    assert page.render(json.loads(figures.read_text("utf-8"))) == (
        DOCS / "benchmarks.md"
    ).read_text("utf-8")


def test_systems_have_names_of_their_own() -> None:
    assert len({system.name for system in systems()}) == len(systems())
