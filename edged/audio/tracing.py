"""What the capture process writes, noted from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edged.audio.output import Output
from edged.tracer import About, Tracer

BLOCK = "block"
QUIETEST = -100.0
"""dB below full scale: silence"""


def watch(output: Output, folder: str) -> None:
    """Note every block and how loud it is. Raises EdgedError where nothing can be written."""
    tracer = Tracer(Path(folder), "capture")

    def about(_result: None, block: object, *_: object) -> About:
        level = level_of(np.frombuffer(block, np.float32))  # type: ignore[call-overload]
        tracer.counter("level", "dB", level)
        return BLOCK, {"written": output.position}

    tracer.watch(output, "write", about)
    tracer.watch(output, "write_at_will", about)


def level_of(samples: np.ndarray) -> float:
    """dB below full scale."""
    power = float(np.mean(np.square(samples))) if len(samples) else 0.0
    return round(max(QUIETEST, 10 * float(np.log10(max(power, 1e-10)))), 1)
