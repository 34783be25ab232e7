"""The ring that audio lies in until its text is final.

Float32 mono at 16 kHz, in a memfd: no name, nothing to unlink, freed by the kernel however its
holders die. The memory is mapped twice in a row, so that every stretch up to the ring's length is
contiguous, across the wrap too, and can be handed to a runtime as it lies.

Positions are absolute sample counts. The ring does not tell how far it is filled: the writer says
so in a message, and a reader trusts only that, so it never sees a count before its samples.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 16000
"""Hertz"""
SAMPLE_BYTES = 4
_PAGE_SAMPLES = mmap.PAGESIZE // SAMPLE_BYTES
_MAP_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def _map(address: int | None, length: int, protection: int, flags: int, fd: int) -> int:
    result = _libc.mmap(address, length, protection, flags, fd, 0)
    if result == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"mmap: {os.strerror(error)}")
    return int(result)


def _map_twice(fd: int, length: int) -> int:
    """Map `length` bytes of fd twice, one behind the other; return the first one's address."""
    nothing = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    base = _map(None, 2 * length, 0, nothing, -1)
    for address in (base, base + length):
        _map(address, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED, fd)
    return base


class AudioRing:
    """Samples by absolute position; the last `capacity` of them are there."""

    def __init__(self, fd: int) -> None:
        """Attach to the memfd of a ring. Takes ownership of the descriptor."""
        self.fd = fd
        self._bytes = os.fstat(fd).st_size
        self.capacity = self._bytes // SAMPLE_BYTES
        base = _map_twice(fd, self._bytes)
        self._memory: Any = (ctypes.c_char * (2 * self._bytes)).from_address(base)
        # Views keep `_memory` alive: the mapping goes when the last one has gone.
        weakref.finalize(self._memory, _libc.munmap, base, 2 * self._bytes)
        self._writable = memoryview(self._memory).cast("B")
        self.address = base

    @classmethod
    def create(cls, samples: int) -> AudioRing:
        """A new ring for at least `samples` samples."""
        capacity = -(-samples // _PAGE_SAMPLES) * _PAGE_SAMPLES
        fd = os.memfd_create("edged-audio", os.MFD_CLOEXEC)
        os.ftruncate(fd, capacity * SAMPLE_BYTES)
        return cls(fd)

    def write(self, position: int, samples: Any) -> int:
        """Copy a bytes-like block of float32 to `position`; return the position after it.

        The one copy on the audio's way. The block must not be longer than the ring.
        """
        block = memoryview(samples).cast("B")
        if len(block) > self._bytes:
            raise ValueError(f"a block of {len(block)} bytes in a ring of {self._bytes}")
        offset = self._offset(position)
        self._writable[offset : offset + len(block)] = block
        return position + len(block) // SAMPLE_BYTES

    def place(self, position: int, samples: int) -> np.ndarray:
        """Where so many samples from `position` on belong, to be written in place."""
        import numpy as np

        return np.frombuffer(self._memory, np.float32, samples, self._offset(position))

    def view(self, start: int, stop: int) -> np.ndarray:
        """The samples from `start` to `stop`, in place, read-only, contiguous.

        Before position 0 lies silence. The caller must know that the writer is not a whole ring
        ahead of `start`.
        """
        import numpy as np

        if not 0 <= stop - start <= self.capacity:
            raise ValueError(f"samples {start} to {stop} of a ring of {self.capacity}")
        offset = self._offset(start)
        samples = np.frombuffer(self._memory, np.float32, stop - start, offset)
        samples.flags.writeable = False
        return samples

    def holds(self, array: np.ndarray) -> bool:
        """Whether an array's memory lies inside the ring."""
        first = array.ctypes.data
        return self.address <= first and first + array.nbytes <= self.address + 2 * self._bytes

    def _offset(self, position: int) -> int:
        return (position % self.capacity) * SAMPLE_BYTES

    def close(self) -> None:
        """Close the descriptor; the memory goes with the last view."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._writable.release()
        self._memory = None
