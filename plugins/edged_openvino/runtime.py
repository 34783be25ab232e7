"""The `openvino` package: imported when it is first needed, its errors in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from edged.errors import ProviderError

KERNELS = 64
"""Compiled for one shape each, that oneDNN keeps. Hardly two utterances have the same shape: its
own 1,024 take 9 MB an utterance up to 1 GB, and save nothing."""


@cache
def openvino() -> Any:
    """The package. Raises ProviderError."""
    # Read once, when the processor's driver is loaded.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
    try:
        import openvino
    except ImportError as error:
        raise ProviderError(
            f"openvino cannot be imported ({error}). Run: pip install 'edged[openvino]'"
        ) from error
    return openvino


@cache
def core() -> Any:
    """The one that loads the devices' drivers; a second one would load them again."""
    with told("start"):
        return openvino().Core()


@contextmanager
def told(what: str) -> Iterator[None]:
    """What the runtime raises inside becomes "openvino cannot WHAT: reason"."""
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:  # the runtime raises types of its own
        raise ProviderError(f"openvino cannot {what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The last line: those before say where in the runtime's source it was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
