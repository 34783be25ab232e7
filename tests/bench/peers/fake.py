"""A peer that hears every sample that is not silent, and answers at times that are known."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3] / "bench" / "peers" / "adapters"))
import wire


class Listener:
    def __init__(self, voice: wire.Voice, options: argparse.Namespace) -> None:
        self._voice = voice
        self._options = options
        self._heard = 0
        self._first: int | None = None
        self._last = 0
        self._shown = False

    def hear(self, samples: np.ndarray) -> None:
        loud = np.flatnonzero(samples)
        if len(loud):
            self._first = self._heard + int(loud[0]) if self._first is None else self._first
            self._last = self._heard + int(loud[-1])
        self._heard += len(samples)
        if self._first is None:
            return
        place = self._first / wire.RATE, self._last / wire.RATE
        if not self._shown and self._heard >= self._first + self._options.partial_after * wire.RATE:
            self._shown = True
            self._voice.partial("one two", *place)
        if self._heard >= self._last + self._options.final_after * wire.RATE:
            self._voice.final("one three", *place)
            self._first, self._shown = None, False

    def finish(self) -> None:
        if self._options.die:
            raise RuntimeError("this peer dies at the end")


def main() -> None:
    parser = wire.parser(__doc__)
    parser.add_argument("--partial-after", type=float, help="seconds after speech began")
    parser.add_argument("--final-after", type=float, help="seconds after it ended")
    parser.add_argument("--die", action="store_true")
    parser.add_argument("--refuse", action="store_true")
    options = parser.parse_args()
    if options.refuse:
        sys.exit("the model is not here")
    wire.serve(
        lambda voice: Listener(voice, options),
        lambda samples: f"{len(samples)} samples",
        offline=options.offline,
        model=[Path(__file__)],
    )


if __name__ == "__main__":
    main()
