"""edged beside other systems, in one run, on the same audio.

    python -m bench.peers install [NAME ...]    make their environments
    python -m bench.peers --write               measure, and write docs/benchmarks.*
    python -m bench.peers --only sherpa --files 4 --phases paced    a part, shown only

What was measured is kept in bench/results/peers.json: a run that was cut off goes on. --fresh
begins anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import corpus
from bench.corpus import ROOT
from bench.peers import environments, page, phases, plots, streams
from bench.peers.results import Results
from bench.peers.summary import summarise
from bench.peers.systems import System
from bench.peers.systems import systems as all_systems
from edged.bench import environment

PHASES = ("alone", "paced", "offline", "streams")
DOCS = ROOT / "docs"


def main() -> None:
    if sys.argv[1:2] == ["install"]:
        environments.install(sys.argv[2:])
        return
    options = _parse()
    results = Results(options.results, environment.describe(), options.fresh)
    systems = all_systems(options.whisper)
    _measure(results, _asked_for(systems, options.only), options)
    document = summarise(results, systems, " ".join(["python -m bench.peers", *sys.argv[1:]]))
    print("\n" + page.render(document))
    if options.write:
        write(document, DOCS)


def write(document: dict[str, object], folder: Path) -> None:
    """The figures, the page and the pictures."""
    plots.draw(document, folder / "benchmarks")
    text = json.dumps(document, indent=1) + "\n"
    (folder / "benchmarks.json").write_text(text, "utf-8")
    (folder / "benchmarks.md").write_text(page.render(document), "utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", help="systems whose names begin so; all")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES, help="all")
    parser.add_argument("--files", type=int, default=20, help="at the pace of time (20)")
    parser.add_argument("--offline-files", type=int, default=50, help="offline (50)")
    parser.add_argument(
        "--streams", type=int, nargs="+", default=streams.COUNTS, help="at once, in turn"
    )
    parser.add_argument("--whisper", type=Path, help="folder of a faster-whisper model; tiny.en's")
    parser.add_argument("--corpus", type=Path, default=corpus.FOLDER, help="folder of the corpus")
    results = ROOT / "bench" / "results" / "peers.json"
    parser.add_argument("--results", type=Path, default=results, help="where they are kept")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.*")
    return parser.parse_args()


def _asked_for(systems: Sequence[System], only: Sequence[str] | None) -> list[System]:
    """Raises SystemExit where there is none."""
    wanted = [s for s in systems if only is None or s.name.startswith(tuple(only))]
    if not wanted:
        names = "; ".join(system.name for system in systems)
        raise SystemExit(f"--only names no system; there are: {names}")
    return wanted


def _measure(results: Results, systems: Sequence[System], options: argparse.Namespace) -> None:
    core = [utterance for utterance in corpus.utterances(options.corpus) if utterance.core]
    chosen = corpus.choose_evenly(core, options.files)
    heard = [system for system in systems if system.streams]
    if "alone" in options.phases:
        phases.alone(heard, results, chosen[0], options.corpus)
    if "paced" in options.phases:
        phases.paced(heard, results, chosen)
    if "offline" in options.phases:
        phases.offline(systems, results, chosen, cores=1)
        more = corpus.choose_evenly(core, options.offline_files)
        phases.offline(systems, results, more, cores=None)
    if "streams" in options.phases:
        streams.carried(heard, results, options.streams)


if __name__ == "__main__":
    main()
