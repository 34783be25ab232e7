"""Each check of the provider's contract fails for a provider that breaks it, and for no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.errors import ProviderError
from edged.provider import (
    Device,
    Loop,
    OperatorSpan,
    Session,
    SessionOptions,
    TensorSpec,
    Value,
)
from edged.testing.providers import CHECKS, ProviderOnDevice
from edged_onnxruntime.provider import OnnxRuntime
from edged_onnxruntime.targets import CPU
from tests.conftest import TINY


class Faulty(Session):
    """A good session; what the tests make of it is not."""

    def __init__(self, session: Session) -> None:
        self.good = session
        self.device = session.device
        self.inputs, self.outputs = session.inputs, session.outputs

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        return self.good.run(inputs, outputs)

    def close(self) -> None:
        self.good.close()


class Made:
    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def numpy(self) -> np.ndarray:
        return self._array


def arrays(inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {k: v if isinstance(v, np.ndarray) else v.numpy() for k, v in inputs.items()}


class Copies(Faulty):
    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        return self.good.run(
            {name: np.ascontiguousarray(array) for name, array in arrays(inputs).items()}, outputs
        )


class Converts(Faulty):
    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        types = {spec.name: spec.dtype for spec in self.inputs}
        given = arrays(inputs)
        if all(array.flags.c_contiguous for array in given.values()):
            given = {name: array.astype(types[name]) for name, array in given.items()}
        return self.good.run(given, outputs)


class Scribbles(Faulty):
    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        made = self.good.run(inputs, outputs)
        for array in inputs.values():
            if isinstance(array, np.ndarray) and array.dtype == np.float32:
                np.multiply(array, 2, out=array)  # raises where it must not be written to
        return made


class Reuses(Faulty):
    buffers: dict[Any, np.ndarray]

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        kept = self.__dict__.setdefault("buffers", {})
        made: list[Value] = []
        for name, value in zip(outputs, self.good.run(arrays(inputs), outputs), strict=True):
            array = value.numpy()
            buffer = kept.setdefault((name, array.shape), np.empty_like(array))
            buffer[...] = array
            made.append(Made(buffer))
        return made


class Random(Faulty):
    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        made = [np.array(value.numpy()) for value in self.good.run(arrays(inputs), outputs)]
        for array in made:
            if array.dtype == np.float32:
                array[...] += np.float32(1e-6 * np.random.default_rng().random())
        return [Made(array) for array in made]


class Misdescribed(Faulty):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.outputs = [TensorSpec(spec.name, spec.dtype, (7,)) for spec in session.outputs]


class Elsewhere(Faulty):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.device = Device("cpu", "npu", "not here")


class RemembersLoop(Loop):
    def shorten(self, length: int) -> None:
        super().shorten(length + 1)


class Remembers(Faulty):
    def loop(self, carried: Mapping[str, str], axis: int) -> Loop:
        return RemembersLoop(self, carried, axis)


class OneLoop(Faulty):
    def loop(self, carried: Mapping[str, str], axis: int) -> Loop:
        loop: Loop = self.__dict__.setdefault("only", Loop(self, carried, axis))
        return loop


class Wrong(Faulty):
    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        made = [np.array(value.numpy()) for value in self.good.run(arrays(inputs), outputs)]
        return [Made(-array if array.dtype == np.float32 else array) for array in made]


class Forgetful(Faulty):
    """Takes another's values for something else."""

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        given = {
            name: tensor if isinstance(tensor, np.ndarray) else np.zeros_like(tensor.numpy())
            for name, tensor in inputs.items()
        }
        return self.good.run(given, outputs)


class Mute(Faulty):
    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        made = [np.array(value.numpy()) for value in self.good.run(arrays(inputs), outputs)]
        return [Made(array * 0 + 2 if array.dtype == np.int64 else array) for array in made]


class Siblings(Faulty):
    """Any one's end is everybody's."""

    closed = False

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        if Siblings.closed:
            raise ProviderError("the runtime is shut down")
        return self.good.run(inputs, outputs)

    def close(self) -> None:
        Siblings.closed = True


class OtherClock(Faulty):
    def profile(self) -> Sequence[OperatorSpan]:
        return [OperatorSpan("node_1", "MatMul", 0, 1000)]


class Provider(OnnxRuntime):
    """ONNX Runtime with a class of sessions put in front."""

    kind: type[Faulty] = Faulty
    strict = True

    def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
        if not self.strict:
            device = CPU
        return self.kind(super().open(model, device, options))


class TakesAnyDevice(Provider):
    strict = False


class RaisesAnything(Provider):
    def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
        try:
            return super().open(model, device, options)
        except ProviderError as error:
            raise OSError("no") from error


class Twins(Provider):
    def probe(self) -> Sequence[Device]:
        return [CPU, CPU]


class Restless(Provider):
    calls: Iterator[int] = iter(range(1000))

    def probe(self) -> Sequence[Device]:
        return [CPU, Device(f"cpu.{next(self.calls)}", "cpu")]


class Strange(Provider):
    def probe(self) -> Sequence[Device]:
        return [CPU, Device("abacus", "wood")]


class Nameless(Provider):
    def version(self) -> str:
        return ""


def with_sessions(kind: type[Faulty]) -> Provider:
    provider = Provider()
    provider.kind = kind
    return provider


def broken(provider: OnnxRuntime, *names: str) -> set[str]:
    """The checks that fail, of those named, or of all."""
    subject = ProviderOnDevice(provider, CPU, TINY)
    wanted = [check for check in CHECKS if not names or check.name in names]
    results = [check.run("it", subject) for check in wanted]
    assert all(result.reason for result in results if not result.passed)
    return {result.name for result in results if not result.passed}


def test_a_good_provider_breaks_nothing() -> None:
    assert broken(Provider()) == set()


def test_one_breach_is_not_taken_for_another() -> None:
    assert broken(with_sessions(Copies)) == {"refuses_a_strided_array"}


@pytest.mark.parametrize(
    ("provider", "check"),
    [
        (with_sessions(Copies), "refuses_a_strided_array"),
        (with_sessions(Converts), "refuses_a_wrong_type"),
        (with_sessions(Reuses), "values_stay_valid"),
        (with_sessions(Forgetful), "takes_its_own_values"),
        (with_sessions(Misdescribed), "describes_its_graph"),
        (with_sessions(Remembers), "a_shortened_loop_is_as_a_fresh_one"),
        (with_sessions(OneLoop), "loops_stand_alone"),
        (with_sessions(Scribbles), "leaves_its_inputs"),
        (with_sessions(Random), "repeats_itself"),
        (with_sessions(Wrong), "computes_the_right_numbers"),
        (with_sessions(Mute), "recognises_the_check_clip"),
        (with_sessions(Elsewhere), "runs_where_it_was_told"),
        (with_sessions(Siblings), "sessions_stand_alone"),
        (with_sessions(OtherClock), "its_profile_lies_within_its_runs"),
        (TakesAnyDevice(), "refuses_an_unknown_device"),
        (RaisesAnything(), "refuses_a_missing_file"),
        (Twins(), "devices_have_names"),
        (Strange(), "devices_have_names"),
        (Restless(), "probe_is_repeatable"),
        (Nameless(), "says_its_version"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_breach_is_found(provider: OnnxRuntime, check: str) -> None:
    assert broken(provider, check) == {check}


def test_every_check_can_fail() -> None:
    [mark] = test_a_breach_is_found.pytestmark  # type: ignore[attr-defined]
    assert {check for _, check in mark.args[1]} == {check.name for check in CHECKS}
