"""What the processor can do at its best, to hold the rungs' work against.

python -m edged.engine.peaks        JSON on stdout
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import msgspec

from edged.hardware.cpu import Cpu

ROWS = 768
"""Of the square matrices: large enough for full speed, done in 0.1 s on a slow core"""
COPY_BYTES = 64 << 20
REPEATS = 4
OPERATIONS_PER_CYCLE = {"avx512f": 64, "avx2": 32}
"""The most float32 operations of an x86 core in a cycle: two units that multiply and add"""


class Peaks(msgspec.Struct, frozen=True, kw_only=True):
    """The most that was measured here, and what the data sheet allows."""

    measured_gigaflops: float
    """Billions of float32 operations a second: numpy's matrix product on all cores, the best of a
    few. Integer instructions can do more."""
    measured_gigabytes_per_second: float
    """Read and written by one thread that copies a large block"""
    theoretical_gigaflops: float | None = None
    """Billions of float32 operations a second that no x86 processor of these features, cores and
    highest clock exceeds; null where the clock or the processor is not known"""


def measure(cpu: Cpu) -> Peaks:
    """Measure in this process; takes a few tenths of a second."""
    import numpy as np

    matrix = np.full((ROWS, ROWS), 0.5, np.float32)
    product = np.empty_like(matrix)
    source = np.ones(COPY_BYTES, np.uint8)
    target = np.zeros_like(source)
    product_seconds = _best(lambda: np.matmul(matrix, matrix, product))
    copy_seconds = _best(lambda: np.copyto(target, source))
    return Peaks(
        measured_gigaflops=2 * ROWS**3 / product_seconds / 1e9,
        measured_gigabytes_per_second=2 * COPY_BYTES / copy_seconds / 1e9,
        theoretical_gigaflops=theoretical_gigaflops(cpu),
    )


def _best(work: Callable[[], object]) -> float:
    """The shortest of a few runs, in seconds, after one to warm up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def theoretical_gigaflops(cpu: Cpu) -> float | None:
    """An upper bound from features, clock and cores; None where one of them is not known."""
    megahertz = max((cluster.max_megahertz or 0 for cluster in cpu.clusters), default=0)
    for feature, operations in OPERATIONS_PER_CYCLE.items():
        if feature in cpu.features and megahertz:
            return operations * megahertz * cpu.cores / 1000
    return None


def main() -> None:
    from edged.hardware.machine import find

    sys.stdout.buffer.write(msgspec.json.encode(measure(find().cpu)))


if __name__ == "__main__":
    main()
