"""The weights in an ONNX file, read without the package `onnx`: its import takes 60 to 110 ms and
13 MB, which a worker would pay at every start.

This is what that needs of Protocol Buffers' wire format (protobuf.dev, "Encoding") and onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

GRAPH = 7
"""Of a model"""
INITIALIZER = 5
"""Of a graph"""
DIMENSION, TYPE, NAME, RAW = 1, 2, 8, 9
"""Of a tensor"""
FLOAT = 1
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


def read_initializers(path: Path) -> dict[str, np.ndarray]:
    """Those in float32 by name, in arrays over the file's bytes. Raises OSError, and ValueError for
    a file that is something else."""
    model = memoryview(path.read_bytes())
    try:
        tensors = [t for graph in _values(model, GRAPH) for t in _values(graph, INITIALIZER)]
        return {_name(tensor): _array(tensor) for tensor in tensors if _is_float(tensor)}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not an ONNX file") from error


def _name(tensor: memoryview) -> str:
    [name] = _values(tensor, NAME)
    return bytes(name).decode()


def _is_float(tensor: memoryview) -> bool:
    return FLOAT in _values(tensor, TYPE) and any(map(len, _values(tensor, RAW)))


def _array(tensor: memoryview) -> np.ndarray:
    [raw] = _values(tensor, RAW)
    return np.frombuffer(raw, "<f4").reshape([*_values(tensor, DIMENSION)])


def _values(message: memoryview, wanted: int) -> Iterator[Any]:
    """What a message has under a field's number: integers, or bytes in place."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value, at = _value(message, at, key & 7)
        if key >> 3 == wanted:
            yield value


def _value(message: memoryview, at: int, kind: int) -> tuple[Any, int]:
    """One value, and where the next field begins."""
    if kind == _VARINT:
        return _varint(message, at)
    sizes = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
    size, at = _varint(message, at) if kind == _LENGTH else (sizes[kind], at)
    if at + size > len(message):
        raise IndexError
    return message[at : at + size], at + size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; all but the last byte have the eighth."""
    value, shift = 0, 0
    while message[at] >= 128:
        value |= (message[at] & 127) << shift
        shift += 7
        at += 1
    return value | message[at] << shift, at + 1
