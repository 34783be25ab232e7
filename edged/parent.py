"""The process that started this one, and waits for its answer on stdout."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
"""linux/prctl.h; Python has no name for it"""


def answer_only() -> int:
    """Keep stdout for the answer: what libraries print goes to stderr. Returns its descriptor.

    This process is killed when that one ends: nobody else would end what hangs here.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    out = os.dup(1)
    os.dup2(2, 1)
    return out
