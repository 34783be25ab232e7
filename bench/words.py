"""How far the times of words are from where a forced aligner puts them.

Needs pocketsphinx (pip install pocketsphinx), which is told what was said and finds where.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

from bench import corpus, report
from bench.corpus import RATE, Utterance
from edged.bench.client import exchange
from edged.bench.daemon import running
from edged.bench.figures import percentile

SETS = {"librispeech_237", "librispeech_test_other", "ljspeech", "vctk_clean", "cmu_arctic"}
"""Read speech, for which the aligner is good"""
FRAME_SECONDS = 0.01
"""Of the aligner"""


class Timed(NamedTuple):
    """A word and where it is, in seconds."""

    word: str
    start: float
    end: float


def main() -> None:
    options = _parse()
    document = report.begin()
    chosen = [u for u in corpus.utterances(options.corpus) if u.set in SETS]
    aligned = list(_aligned(corpus.choose_evenly(chosen, options.files)))
    rows = []
    for model in report.models(options):
        measured = document["models"][model] = _measure(model, aligned)
        rows.append((model, *measured.values()))
        report.finish(document, options.output)
    head = ("", "words", "start p50", "start p90", "end p50", "end p90")
    report.print_table("seconds off, in either direction", head, rows)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--files", type=int, default=100, help="so many, evenly over the sets")
    return parser.parse_args()


def _measure(model: str, aligned: Sequence[tuple[Utterance, list[Timed]]]) -> dict[str, Any]:
    starts, ends = [], []
    with running(model) as daemon:
        for utterance, known in aligned:
            heard = exchange(daemon.url, corpus.load(utterance.path), words=True)
            found = [
                Timed(_bare(word["word"]), word["start"], word["end"])
                for final in heard.of_type("final")
                for word in final.event["words"]
            ]
            for mine, theirs in _pairs(found, known):
                starts.append(abs(mine.start - theirs.start))
                ends.append(abs(mine.end - theirs.end))
    return {
        "words": len(starts),
        "start_p50": median(starts),
        "start_p90": percentile(starts, 90),
        "end_p50": median(ends),
        "end_p90": percentile(ends, 90),
    }


def _pairs(found: list[Timed], known: list[Timed]) -> Iterator[tuple[Timed, Timed]]:
    """Words that were recognised, with where they are."""
    words = ([timed.word for timed in side] for side in (found, known))
    for block in difflib.SequenceMatcher(None, *words, autojunk=False).get_matching_blocks():
        for k in range(block.size):
            yield found[block.a + k], known[block.b + k]


def _bare(word: str) -> str:
    return re.sub(r"[^a-z']", "", word.lower())


# -- the aligner ----------------------------------------------------------------------------------


def _aligned(chosen: Sequence[Utterance]) -> Iterator[tuple[Utterance, list[Timed]]]:
    """Utterances with the times of their words; those with words unknown to it are left out."""
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise SystemExit("the aligner is missing. Run: pip install pocketsphinx") from error
    decoder = Decoder(samprate=RATE, loglevel="ERROR")
    for utterance in chosen:
        words = utterance.reference.split()
        if all(decoder.lookup_word(word) for word in words):
            found = _align(decoder, utterance)
            if [timed.word for timed in found] == words:
                yield utterance, found


def _align(decoder: Any, utterance: Utterance) -> list[Timed]:
    decoder.set_align_text(utterance.reference)
    decoder.start_utt()
    decoder.process_raw(corpus.load(utterance.path).tobytes(), full_utt=True)
    decoder.end_utt()
    return [
        Timed(
            segment.word.partition("(")[0],
            segment.start_frame * FRAME_SECONDS,
            (segment.end_frame + 1) * FRAME_SECONDS,
        )
        for segment in decoder.seg() or ()
        if segment.word[0] not in "<["
    ]


if __name__ == "__main__":
    main()
