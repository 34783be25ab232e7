"""Memory that was freed and that malloc keeps."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


@functools.cache
def _trim() -> Callable[[int], int]:
    """glibc's malloc_trim; nothing with a C library that has none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", lambda _pad: 0)


def give_back() -> None:
    """To the system, so that others have it."""
    _trim()(0)
