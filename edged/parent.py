"""The process that started this one."""

from __future__ import annotations

import ctypes
import signal

PR_SET_PDEATHSIG = 1
"""linux/prctl.h; Python has no name for it"""


def die_with_parent() -> None:
    """Be killed when it ends: nobody else would end what hangs here."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
