"""The ring: one memory, mapped twice in a row."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.audio.ring import AudioRing

PAGE = os.sysconf("SC_PAGE_SIZE") // 4
"""Samples"""


def ramp(start: int, stop: int) -> np.ndarray:
    """Samples that tell their position."""
    return np.arange(start, stop, dtype=np.float32)


def mappings() -> int:
    """How often a ring is mapped into this process."""
    return Path("/proc/self/maps").read_text().count("edged-audio")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_ring_holds_at_least_what_was_asked_for() -> None:
    for samples in (1, PAGE - 1, PAGE, PAGE + 1):
        ring = AudioRing.create(samples)
        assert ring.capacity >= samples
        assert ring.capacity % PAGE == 0
        ring.close()


def test_a_view_is_what_was_written() -> None:
    ring = AudioRing.create(PAGE)
    assert ring.write(0, ramp(0, 100)) == 100
    assert np.array_equal(ring.view(20, 70), ramp(20, 70))
    ring.close()


def test_a_view_across_the_wrap_is_whole() -> None:
    ring = AudioRing.create(PAGE)
    position = 0
    for length in (PAGE - 10, 50, PAGE - 100, 333):
        block = ramp(position, position + length)
        position = ring.write(position, block)
        assert np.array_equal(ring.view(position - length, position), block)
    assert np.array_equal(ring.view(position - PAGE, position), ramp(position - PAGE, position))
    ring.close()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, PAGE), max_size=12), st.integers(0, 10 * PAGE))
def test_the_last_capacity_samples_are_always_there(lengths: list[int], start: int) -> None:
    ring = AudioRing.create(PAGE)
    position = start
    for length in lengths:
        position = ring.write(position, ramp(position, position + length))
    first = max(start, position - PAGE)
    assert np.array_equal(ring.view(first, position), ramp(first, position))
    ring.close()


def test_a_view_lies_in_the_ring_and_is_no_copy() -> None:
    ring = AudioRing.create(PAGE)
    across = ring.view(PAGE - 5, PAGE + 5)
    assert ring.holds(across)
    assert not ring.holds(across.copy())
    assert ring.address <= across.ctypes.data < ring.address + 2 * 4 * ring.capacity
    assert across.flags.c_contiguous
    ring.write(PAGE - 5, ramp(0, 10))
    assert np.array_equal(across, ramp(0, 10))
    del across
    ring.close()


def test_a_view_cannot_be_written() -> None:
    ring = AudioRing.create(PAGE)
    view = ring.view(0, 10)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1.0
    del view
    ring.close()


def test_before_the_first_sample_lies_silence() -> None:
    ring = AudioRing.create(PAGE)
    ring.write(0, ramp(1, 11))
    assert np.array_equal(ring.view(-10, 0), np.zeros(10, np.float32))
    ring.close()


def test_a_block_longer_than_the_ring_is_refused() -> None:
    ring = AudioRing.create(PAGE)
    assert ring.write(7, ramp(0, PAGE)) == 7 + PAGE
    with pytest.raises(ValueError, match="ring"):
        ring.write(0, ramp(0, PAGE + 1))
    ring.close()


def test_a_view_longer_than_the_ring_is_refused() -> None:
    ring = AudioRing.create(PAGE)
    with pytest.raises(ValueError, match="ring"):
        ring.view(0, PAGE + 1)
    with pytest.raises(ValueError, match="ring"):
        ring.view(10, 9)
    ring.close()


def test_two_holders_see_the_same_samples() -> None:
    writer = AudioRing.create(PAGE)
    reader = AudioRing(os.dup(writer.fd))
    assert reader.capacity == writer.capacity
    writer.write(0, ramp(0, 10))
    assert np.array_equal(reader.view(0, 10), ramp(0, 10))
    reader.close()
    writer.close()


def test_another_process_sees_the_same_samples() -> None:
    ring = AudioRing.create(PAGE)
    program = (
        "import sys; from edged.audio.ring import AudioRing;"
        "ring = AudioRing(int(sys.argv[1]));"
        f"ring.write({PAGE - 2}, ring.view(0, 4))"
    )
    ring.write(0, ramp(1, 5))
    subprocess.run(
        [sys.executable, "-c", program, str(ring.fd)], pass_fds=[ring.fd], check=True, timeout=30
    )
    assert np.array_equal(ring.view(PAGE - 2, PAGE + 2), ramp(1, 5))
    ring.close()


def test_the_memory_is_freed_when_the_last_view_has_gone() -> None:
    before = mappings()
    ring = AudioRing.create(PAGE)
    assert mappings() > before
    ring.write(0, ramp(0, 10))
    view = ring.view(0, 10)
    part = view[2:4]
    ring.close()
    del ring, view
    gc.collect()
    assert np.array_equal(part, ramp(2, 4)), "it still lies in mapped memory"
    assert mappings() > before
    del part
    gc.collect()
    assert mappings() == before


def test_a_closed_ring_has_no_descriptor_and_closes_again() -> None:
    ring = AudioRing.create(PAGE)
    number = ring.fd
    ring.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(number)
    ring.close()


def test_rings_do_not_pile_up() -> None:
    before = mappings(), descriptors()
    for _ in range(50):
        ring = AudioRing.create(PAGE)
        ring.write(0, ring.view(0, 10))
        ring.close()
    gc.collect()
    assert (mappings(), descriptors()) == before
