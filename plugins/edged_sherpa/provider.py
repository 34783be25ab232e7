"""sherpa-onnx as an execution provider: a whole model is its graph, samples go in, tokens come out.

It opens folders that end in `.sherpa`, with the model's files under the names of the parameters of
the package's factories; what else the factory is told stands in [decoding] of `model.toml`, two
folders above. A streaming model's state is a loop. Only the processor: the package takes the name
of another device, and where its build has none, falls back to the processor in silence.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edged.errors import ModelError, ProviderError
from edged.provider import (
    Device,
    ExecutionProvider,
    Loop,
    Session,
    SessionOptions,
    Tensor,
    TensorSpec,
    Value,
)
from edged_sherpa import kinds

CPU = Device("cpu", "cpu", "sherpa-onnx with an ONNX Runtime of its own")
SAMPLE_RATE = 16000
SAMPLES = TensorSpec("samples", "float32", (None,))
LAST = TensorSpec("last", "bool", (1,))
"""Whether no samples follow"""
OUTPUTS = (
    TensorSpec("text", "uint8", (None,)),  # UTF-8
    TensorSpec("tokens", "uint8", (None,)),  # UTF-8, each ended by NUL
    TensorSpec("starts", "float32", (None,)),  # seconds, of each token
    TensorSpec("log_probabilities", "float32", (None,)),  # of each token; none from most CTC models
    TensorSpec("endpoint", "bool", (1,)),  # whether the model's own rules see the end
)


class SherpaOnnx(ExecutionProvider):
    """The `sherpa-onnx` package."""

    name: ClassVar[str] = "sherpa"
    formats: ClassVar[frozenset[str]] = frozenset({".sherpa"})
    packages: ClassVar[Sequence[str]] = ("sherpa-onnx",)

    def version(self) -> str:
        return str(kinds.package().__version__)

    def probe(self) -> Sequence[Device]:
        kinds.package()
        return [CPU]

    def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
        if device != CPU:
            raise ProviderError(
                f"sherpa has no device {device.name}; it has: {CPU.name}", code="device_missing"
            )
        decoding = _decoding(model)
        with _told(f"load {model}"):
            kind = kinds.kind_of(decoding)
            engine = kind.make(
                **kinds.files_of(kind, model),
                **kinds.options_of(kind, decoding, model.parents[1]),
                num_threads=options.threads,
                provider=CPU.name,
            )
        if kind.streaming:
            padding = float(decoding.get("tail_padding", kinds.TAIL_PADDING))
            return _OnlineSession(engine, decoding.get("hotwords", []), padding)
        return _OfflineSession(engine, decoding.get("hotwords", []))


def _decoding(model: Path) -> Mapping[str, Any]:
    """What model.toml says of a model. Raises ProviderError."""
    if not model.is_dir():
        raise ProviderError(f"{model} is not there", code="model_missing")
    path = model.parents[1] / "model.toml"
    try:
        found: Mapping[str, Any] = tomllib.loads(path.read_text("utf-8"))["decoding"]
    except (OSError, ValueError, KeyError) as error:
        raise ProviderError(f"{path} says nothing of {model.name} ({error!r})") from error
    return found


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say what failed in one line; ours already do."""
    try:
        yield
    except (ModelError, ProviderError):
        raise
    except Exception as error:
        [line, *_] = str(error).strip().splitlines() or [repr(error)]
        raise ProviderError(f"sherpa-onnx cannot {what}: {line}") from error


class _Array:
    """A value on the host."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def numpy(self) -> np.ndarray:
        return self._array


class _SherpaSession(Session):
    """A loaded model."""

    device = CPU
    outputs = OUTPUTS

    def __init__(self, engine: Any, hotwords: Sequence[str]) -> None:
        self.engine = engine
        self._hotwords = "/".join(hotwords)

    def new_stream(self) -> Any:
        """A stream of the package's, which has heard nothing."""
        if self._hotwords:
            return self.engine.create_stream(hotwords=self._hotwords)
        return self.engine.create_stream()

    def taken(self, inputs: Mapping[str, Tensor]) -> list[np.ndarray]:
        """The inputs as arrays, in their order. Raises ProviderError for what would be copied."""
        return [_array(spec, inputs[spec.name]) for spec in self.inputs]

    def close(self) -> None:
        self.engine = None


def _array(spec: TensorSpec, tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor if isinstance(tensor, np.ndarray) else tensor.numpy()
    if array.dtype.name != spec.dtype or array.ndim != len(spec.shape):
        raise ProviderError(f"{spec.name} wants {spec.dtype} {spec.shape}, not {array.dtype}")
    if not array.flags.c_contiguous:
        raise ProviderError(f"{spec.name} is not C-contiguous")
    return array


def _read(result: Any, name: str, unreadable: Any) -> Any:
    """One of a result's fields: the package raises for a character of which only a part is there,
    as noise may make a model write that spells in bytes."""
    try:
        return getattr(result, name)
    except UnicodeDecodeError:
        return unreadable


def _values(
    result: Any, log_probabilities: Sequence[float], endpoint: bool, wanted: Sequence[str]
) -> list[Value]:
    """A result of the package's as arrays of our own."""
    tokens = "".join(f"{token}\0" for token in _read(result, "tokens", []))
    made: dict[str, np.ndarray] = {
        "text": np.frombuffer(_read(result, "text", "").encode(), np.uint8),
        "tokens": np.frombuffer(tokens.encode(), np.uint8),
        "starts": np.array(result.timestamps, np.float32),
        "log_probabilities": np.array(log_probabilities, np.float32),
        "endpoint": np.array([endpoint]),
    }
    return [_Array(made[name]) for name in wanted]


class _OfflineSession(_SherpaSession):
    """A model that hears an utterance whole."""

    inputs = (SAMPLES,)

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Value]:
        [samples] = self.taken(inputs)
        with _told(f"decode {len(samples)} samples"):
            stream = self.new_stream()
            stream.accept_waveform(SAMPLE_RATE, samples)
            self.engine.decode_stream(stream)
            result = stream.result
        return _values(result, result.ys_log_probs, False, outputs)


class _OnlineSession(_SherpaSession):
    """A model that hears an utterance as it comes."""

    inputs = (SAMPLES, LAST)

    def __init__(self, engine: Any, hotwords: Sequence[str], padding: float) -> None:
        super().__init__(engine, hotwords)
        self.silence = np.zeros(round(padding * SAMPLE_RATE), np.float32)

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Value]:
        return _Stream(self).run(inputs, outputs)

    def loop(self, carried: Mapping[str, str], axis: int) -> Loop:
        return _Stream(self)


class _Stream(Loop):
    """An utterance that goes on from run to run: each is given the samples that are new."""

    def __init__(self, session: _OnlineSession) -> None:
        self._heard_by = session
        self._stream = session.new_stream()

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Value]:
        samples, last = self._heard_by.taken(inputs)
        engine, stream = self._heard_by.engine, self._stream
        with _told(f"decode {len(samples)} samples"):
            self._hear(samples)
            endpoint = engine.is_endpoint(stream)
            if last[0]:
                self._hear(self._heard_by.silence)
            result = engine.get_result_all(stream)
        return _values(result, result.ys_probs, endpoint, outputs)

    def _hear(self, samples: np.ndarray) -> None:
        engine, stream = self._heard_by.engine, self._stream
        if len(samples):
            stream.accept_waveform(SAMPLE_RATE, samples)
        while engine.is_ready(stream):
            engine.decode_stream(stream)

    def shorten(self, length: int) -> None:
        if length:
            raise ProviderError("sherpa-onnx forgets all of an utterance or nothing")
        self._stream = self._heard_by.new_stream()
