"""Word error rate over the corpus, through a real daemon; words written where none were said."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench import corpus, report, scoring
from bench.corpus import Utterance
from edged.bench.client import Exchange, exchange
from edged.bench.daemon import DaemonProcess, running

CONNECTIONS = 4
WORST = 15
"""Files shown with their errors"""
SILENCE_SECONDS = 60.0

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Result:
    """One utterance, recognised."""

    path: str
    set: str
    core: bool
    reference: str
    hypothesis: str
    errors: scoring.Errors
    finals: int
    """With text"""
    empty_finals: int


@dataclass(frozen=True, slots=True)
class FalseAlarm:
    """What was made of a track in which nobody speaks."""

    path: str
    human: bool
    seconds: float
    """Of the track"""
    utterances: int
    """Begun, with and without text"""
    texts: list[str]

    @property
    def words(self) -> int:
        return sum(len(text.split()) for text in self.texts)


def main() -> None:
    options = _parse()
    document = report.begin()
    for model in report.models(options):
        with running(model) as daemon:
            document["models"][model] = _measure(model, daemon, options)
        report.finish(document, options.output)  # after each model: a long run may be cut off


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--files", type=int, help="only so many, chosen evenly over the sets")
    parser.add_argument("--noise", action="store_true", help="also the noise tracks and silence")
    return parser.parse_args()


def _measure(model: str, daemon: DaemonProcess, options: argparse.Namespace) -> dict[str, Any]:
    chosen = corpus.utterances(options.corpus)
    if options.files:
        chosen = corpus.choose_evenly(chosen, options.files)
    results = _at_once(lambda utterance: _recognize(daemon.url, utterance), chosen)
    _print_results(model, results)
    measured: dict[str, Any] = {
        "core": _summary([r for r in results if r.core]),
        "all": _summary(results),
        "sets": {name: _summary(members) for name, members in _by_set(results).items()},
        "files": [asdict(result) for result in results],
    }
    if options.noise:
        alarms = _listen_to_noise(daemon.url, options.corpus)
        _print_alarms(model, alarms)
        measured["noise"] = [asdict(alarm) for alarm in alarms]
    measured["log"] = daemon.complaints()
    report.print_complaints(model, measured["log"])
    return measured


def _at_once(work: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """Work on several items at a time; the answers in the items' order."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(work, items))


# -- speech -------------------------------------------------------------------------------------


def _recognize(url: str, utterance: Utterance) -> Result:
    heard = exchange(url, corpus.load(utterance.path))
    written = [bool(arrival.event["text"]) for arrival in heard.of_type("final")]
    return Result(
        path=f"{utterance.set}/{utterance.path.name}",
        set=utterance.set,
        core=utterance.core,
        reference=utterance.reference,
        hypothesis=heard.text,
        errors=scoring.compare(
            scoring.normalize(utterance.reference), scoring.normalize(heard.text)
        ),
        finals=written.count(True),
        empty_finals=written.count(False),
    )


def _by_set(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The core sets first, as the manifest has them."""
    sets: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda result: not result.core):
        sets.setdefault(result.set, []).append(result)
    return sets


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    errors = scoring.add(result.errors for result in results)
    files = max(1, len(results))
    return {
        "files": len(results),
        **asdict(errors),
        "errors": errors.total,
        "wer": errors.rate,
        "finals_per_file": sum(r.finals for r in results) / files,
        "empty_finals": sum(r.empty_finals for r in results),
        "files_without_text": sum(r.finals == 0 for r in results),
    }


def _print_results(model: str, results: Sequence[Result]) -> None:
    rows = [_row(name, members) for name, members in _by_set(results).items()]
    rows.append(_row("CORE", [r for r in results if r.core]))
    rows.append(_row("ALL", results))
    head = ("set", "files", "words", "subst", "del", "ins", "WER", "finals/file", "empty", "mute")
    report.print_table(f"{model}: word error rate", head, rows)
    worst = sorted((r for r in results if r.core), key=lambda r: -r.errors.total)[:WORST]
    print(f"\n{model}: core files with most errors")
    for result in worst:
        print(f"{result.path}: {result.errors.total} of {result.errors.words}")
        print(f"  said:    {result.reference}\n  written: {result.hypothesis}", flush=True)


def _row(name: str, results: Sequence[Result]) -> list[object]:
    summary = _summary(results)
    return [
        name,
        *(summary[key] for key in ("files", "words", "substituted", "deleted", "inserted")),
        report.percent(summary["wer"]),
        f"{summary['finals_per_file']:.2f}",
        summary["empty_finals"],
        summary["files_without_text"],
    ]


# -- noise --------------------------------------------------------------------------------------


def _listen_to_noise(url: str, folder: Path) -> list[FalseAlarm]:
    alarms = _at_once(
        lambda track: _alarm(url, track.path.stem, track.human, corpus.load(track.path)),
        corpus.noise_tracks(folder),
    )
    silence = corpus.silence(SILENCE_SECONDS)
    return [*alarms, _alarm(url, "digital silence", False, silence)]


def _alarm(url: str, name: str, human: bool, samples: np.ndarray) -> FalseAlarm:
    heard: Exchange = exchange(url, samples)
    finals = [arrival.event["text"] for arrival in heard.of_type("final")]
    return FalseAlarm(
        path=name,
        human=human,
        seconds=len(samples) / corpus.RATE,
        utterances=len(finals),
        texts=[text for text in finals if text],
    )


def _print_alarms(model: str, alarms: Sequence[FalseAlarm]) -> None:
    seconds = sum(alarm.seconds for alarm in alarms)
    rows = [
        (
            alarm.path + (" (human)" if alarm.human else ""),
            f"{alarm.seconds:.0f}",
            alarm.utterances,
            alarm.words,
            " | ".join(alarm.texts),
        )
        for alarm in alarms
        if alarm.utterances
    ]
    words = sum(alarm.words for alarm in alarms)
    title = f"{model}: {words} words in {seconds / 60:.1f} min of noise and silence"
    if rows:
        report.print_table(title, ("track", "seconds", "begun", "words", "texts"), rows)
    else:
        print(f"\n{title}; nothing was taken for speech", flush=True)


if __name__ == "__main__":
    main()
