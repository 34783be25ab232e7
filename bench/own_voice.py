"""How much of its own voice a machine still hears, and how much of others it loses for that.

Two recordings of different sets: one is the machine's own voice, whose text it tells, the other
somebody who speaks after it or over it (15 dB louder, as beside the microphone).
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import numpy as np

from bench import corpus, report
from bench.corpus import Utterance, silence
from edged.bench.client import StreamClient
from edged.bench.daemon import running
from edged.engine.own_voice import bare

SOFTER = 10 ** (-15 / 20)
SETTLE_SECONDS = 0.05
"""For the order to be there before the audio"""


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--pairs", type=int, default=60, help="of recordings")
    options = parser.parse_args()
    document = report.begin()
    chosen = corpus.choose_core(options.corpus, options.pairs + 1)
    pairs = list(pairwise(chosen))
    rows = []
    for model in report.models(options):
        with running(model) as daemon:
            measured = document["models"][model] = _measure(daemon.url, pairs)
        rows.append((model, *measured.values()))
        report.finish(document, options.output)
    head = ("", "own words heard", "left of them", "others' lost, after it", "over it")
    report.print_table("shares of words", head, rows)


def _measure(url: str, pairs: Sequence[tuple[Utterance, Utterance]]) -> dict[str, Any]:
    own_words = left = others = lost_after = lost_over = 0
    for own, other in pairs:
        voice, somebody = corpus.load(own.path), corpus.load(other.path)
        after = np.concatenate([voice, silence(0.2), somebody])
        heard_own, heard_other = _hear(url, voice), _hear(url, somebody)
        heard_over = _hear(url, _mixed(voice, somebody))
        own_words += len(heard_own)
        left += len(_hear(url, voice, own.reference))
        heard_after, rest = _hear(url, after), _hear(url, after, own.reference)
        others += len(heard_other)
        lost_after += max(0, _common(heard_other, heard_after) - _common(heard_other, rest))
        over = _hear(url, _mixed(voice, somebody), own.reference)
        lost_over += max(0, _common(heard_other, heard_over) - _common(heard_other, over))
    return {
        "own_words": own_words,
        "left_alone": left / own_words,
        "lost_after": lost_after / others,
        "lost_over": lost_over / others,
    }


def _mixed(voice: np.ndarray, somebody: np.ndarray) -> np.ndarray:
    """Both from the beginning."""
    mixed = np.zeros(max(len(voice), len(somebody)))
    mixed[: len(voice)] += SOFTER * voice
    mixed[: len(somebody)] += somebody
    return np.clip(mixed, -32768, 32767).astype(np.int16)


def _hear(url: str, samples: np.ndarray, own_text: str | None = None) -> list[str]:
    """The words of all finals, bare."""
    with StreamClient(url) as client:
        while not client.arrivals:
            time.sleep(0.005)
        if own_text is not None:
            _play(url, client.arrivals[0].event["stream"], own_text)
        client.send(samples)
        client.send(silence(1))
        text = client.finish().text
    return [word for word in map(bare, text.split()) if word]


def _play(url: str, stream: str, text: str) -> None:
    order = json.dumps({"stream": stream, "text": text, "seconds": 120}).encode()
    request = urllib.request.Request(
        f"{url}/v1/playback", order, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        answer.read()
    time.sleep(SETTLE_SECONDS)


def _common(one: list[str], other: list[str]) -> int:
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks)


if __name__ == "__main__":
    main()
