"""The execution provider's contract, device by device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edged.errors import ModelError, ProviderError
from edged.models import check as check_clip
from edged.models.inventory import store
from edged.models.store import OWN, Model, formats_of
from edged.plugins import Plugins
from edged.provider import Device, ExecutionProvider, Opener, Session, SessionOptions
from edged.recognizer import Recognizer
from edged.testing.check import must_raise, named, require
from edged.testing.recording import Graph, LoopRuns, RecordingOpener, Run

KINDS = {"cpu", "gpu", "npu", "tpu", "dsp"}
PRECISIONS = ("fp32", "int8", "bf16", "fp16", "int4")
"""In the order in which one is taken to check with"""
CLOCKS = 1_000_000
"""Nanoseconds that a runtime's clock may be off"""
CLOSE = 1e-3
"""Two ways to compute the same may differ by this share of the largest number"""


class ProviderOnDevice:
    """A provider and one of its devices, with a model to try it on."""

    def __init__(self, provider: ExecutionProvider, device: Device, model: str | None) -> None:
        self.provider = provider
        self.device = device
        self._wanted = model

    @cached_property
    def model(self) -> tuple[Model, str]:
        """A built model that the provider opens, and a precision. Raises ModelError."""
        return choose_model(self.provider.formats_on(self.device.name), self._wanted)

    @cached_property
    def opener(self) -> RecordingOpener:
        _, precision = self.model
        return RecordingOpener(
            Opener(self.provider, self.device, SessionOptions(precision=precision))
        )

    @cached_property
    def recognizer(self) -> Recognizer:
        model, precision = self.model
        kind = Plugins.discover().recognizer(model.family)
        return kind(model, precision, self.opener)

    @cached_property
    def clip(self) -> np.ndarray:
        model, _ = self.model
        return check_clip.read_clip(model.path(check_clip.CHECK_CLIP))

    @cached_property
    def graphs(self) -> list[Graph]:
        """The model's graphs, with what they are asked to recognise the check clip."""
        self.recognizer.transcribe(self.clip)
        return [graph for graph in self.opener.graphs if graph.runs or graph.loops]

    def open(self, graph: Graph) -> Session:
        return self.provider.open(graph.path, self.device, self.options)

    @property
    def options(self) -> SessionOptions:
        return SessionOptions(precision=self.model[1])

    def runs(self) -> Iterator[tuple[Session, Run]]:
        """Every graph in a session of its own, with something to ask it."""
        sessions = [(self.open(graph), graph) for graph in self.graphs]
        try:
            yield from ((session, _plain_run(session, graph)) for session, graph in sessions)
        finally:
            for session, _ in sessions:
                session.close()


def choose_model(endings: frozenset[str], wanted: str | None) -> tuple[Model, str]:
    """The lightest built model with files of these endings, and a precision of it."""
    found = [store().get(name) for name in ([wanted] if wanted else store().built())]
    kinds = formats_of(endings) - {OWN}
    for model in sorted(found, key=_bytes):
        for precision in PRECISIONS:
            if any((precision, kind) in model.parts for kind in kinds):
                return model, precision
    formats = ", ".join(sorted(endings))
    raise ModelError(
        f"There is no model for {formats} to check with. Run: edged models build",
        code="model_missing",
    )


def _bytes(model: Model) -> int:
    total = sum(int(file["bytes"]) for file in model.files.values())
    return total // max(1, len(model.precisions))


def _plain_run(session: Session, graph: Graph) -> Run:
    """A run as recorded, or the first of a loop with nothing carried yet."""
    if graph.runs:
        return graph.runs[0]
    loop, first = graph.loops[0], graph.loops[0].runs[0]
    nothing = {
        spec.name: np.zeros(
            [0 if n == loop.axis else size or 1 for n, size in enumerate(spec.shape)], spec.dtype
        )
        for spec in session.inputs
        if spec.name in loop.carried
    }
    return Run({**first.inputs, **nothing}, [*first.outputs, *loop.carried.values()])


def _arrays(session: Session, run: Run) -> list[np.ndarray]:
    return [np.array(value.numpy()) for value in session.run(run.inputs, run.outputs)]


def _same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


# -- what it says of itself -----------------------------------------------------------------------


def devices_have_names(subject: ProviderOnDevice) -> None:
    """probe() returns devices with names of their own and a kind that edged knows."""
    devices = list(subject.provider.probe())
    names = [device.name for device in devices]
    require(len(set(names)) == len(names), f"two devices have one name: {', '.join(names)}")
    for device in devices:
        require(device.name and " " not in device.name, f"{device.name!r} is no name")
        kinds = ", ".join(sorted(KINDS))
        require(device.kind in KINDS, f"{device.name} is a {device.kind!r}; use one of {kinds}")


def probe_is_repeatable(subject: ProviderOnDevice) -> None:
    """probe() returns the same devices again."""
    first, second = subject.provider.probe(), subject.provider.probe()
    require(list(first) == list(second), f"first {first}, then {second}")


def says_its_version(subject: ProviderOnDevice) -> None:
    """version() is a word, and formats are file endings with their dot."""
    version = subject.provider.version()
    require(isinstance(version, str) and version, f"version() returned {version!r}")
    formats = subject.provider.formats
    good = formats and all(isinstance(f, str) and f.startswith(".") for f in formats)
    require(good, f"formats is {formats!r}")


# -- open -----------------------------------------------------------------------------------------


def refuses_an_unknown_device(subject: ProviderOnDevice) -> None:
    """open() on a device that is not there raises ProviderError."""
    nowhere = replace(subject.device, name="nowhere.7")
    with must_raise(ProviderError, "open() on nowhere.7"):
        subject.provider.open(subject.graphs[0].path, nowhere, subject.options)


def refuses_a_missing_file(subject: ProviderOnDevice) -> None:
    """open() of a file that is not there raises ProviderError that names it."""
    path = Path("/nowhere", f"missing{sorted(subject.provider.formats)[0]}")
    try:
        subject.provider.open(path, subject.device, SessionOptions())
    except ProviderError as error:
        require(path.name in error.message, f"its error does not name the file: {error.message}")
    else:
        require(False, f"it opened {path}")


def runs_where_it_was_told(subject: ProviderOnDevice) -> None:
    """A session says that it runs on the device it was opened on."""
    for session, _ in subject.runs():
        found = session.device
        require(found == subject.device, f"asked for {subject.device}, it says {found}")


def describes_its_graph(subject: ProviderOnDevice) -> None:
    """inputs and outputs of a session have the names, types and shapes that it takes and makes."""
    for session, run in subject.runs():
        _require_described(session.inputs, run.inputs, "input")
        made = dict(zip(run.outputs, _arrays(session, run), strict=True))
        _require_described(session.outputs, made, "output")


def _require_described(specs: Any, arrays: Mapping[str, np.ndarray], what: str) -> None:
    by_name = {spec.name: spec for spec in specs}
    for name, array in arrays.items():
        spec = by_name.get(name)
        require(spec is not None, f"{what} {name} is not described")
        assert spec is not None
        require(spec.dtype == array.dtype.name, f"{name} is {array.dtype}, not {spec.dtype}")
        fits = len(spec.shape) == array.ndim and all(
            size in {None, actual} for size, actual in zip(spec.shape, array.shape, strict=True)
        )
        require(fits, f"{what} {name} is {array.shape}, described as {spec.shape}")


# -- run ------------------------------------------------------------------------------------------


def refuses_a_wrong_type(subject: ProviderOnDevice) -> None:
    """run() with an array of the wrong dtype raises ProviderError."""
    for session, run in subject.runs():
        for name, array in run.inputs.items():
            if not array.size:
                continue  # there is nothing in it that could be copied
            wrong = array.astype(np.float64 if array.dtype != np.float64 else np.float32)
            with must_raise(ProviderError, f"{name} as {wrong.dtype}"):
                session.run({**run.inputs, name: wrong}, run.outputs)


def refuses_a_strided_array(subject: ProviderOnDevice) -> None:
    """run() with an array that is not C-contiguous raises ProviderError."""
    tried = 0
    for session, run in subject.runs():
        for name, array in run.inputs.items():
            strided = np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
            if strided.flags.c_contiguous:
                continue
            tried += 1
            with must_raise(ProviderError, f"{name} with strides {strided.strides}"):
                session.run({**run.inputs, name: strided}, run.outputs)
    require(tried, "no input of this model can be strided")


def repeats_itself(subject: ProviderOnDevice) -> None:
    """The same inputs give the same outputs, to the last bit."""
    for session, run in subject.runs():
        require(_same(_arrays(session, run), _arrays(session, run)), "the second run differs")


def leaves_its_inputs(subject: ProviderOnDevice) -> None:
    """run() takes arrays that must not be written to, and does not change what it is given."""
    for session, run in subject.runs():
        before = {name: array.copy() for name, array in run.inputs.items()}
        for array in run.inputs.values():
            array.flags.writeable = False
        try:
            session.run(run.inputs, run.outputs)
        finally:
            for array in run.inputs.values():
                array.flags.writeable = True
        changed = [n for n, array in run.inputs.items() if not np.array_equal(array, before[n])]
        require(not changed, f"it changed {', '.join(changed)}")


def values_stay_valid(subject: ProviderOnDevice) -> None:
    """A Value keeps its numbers while the session runs on."""
    for session, run in subject.runs():
        values = session.run(run.inputs, run.outputs)
        before = [np.array(value.numpy()) for value in values]
        other = {name: _changed(array) for name, array in run.inputs.items()}
        session.run(other, run.outputs)
        after = [np.array(value.numpy()) for value in values]
        require(_same(before, after), "a later run changed what an earlier one had returned")


def _changed(array: np.ndarray) -> np.ndarray:
    """Other numbers of the same kind; whole numbers, which choose things, stay."""
    return (array * array.dtype.type(0.5)) if array.dtype.kind == "f" else array


def takes_its_own_values(subject: ProviderOnDevice) -> None:
    """What one session made can be fed to the next one of the same device."""
    made: dict[tuple[Any, ...], Any] = {}
    fed = 0
    for session, run in subject.runs():
        inputs = {name: made.get(_content(array), array) for name, array in run.inputs.items()}
        fed += sum(inputs[name] is not array for name, array in run.inputs.items())
        values = session.run(inputs, run.outputs)
        require(
            _same([np.array(v.numpy()) for v in values], _arrays(session, run)),
            "a Value gives another result than the same numbers in an array",
        )
        made |= {_content(np.array(value.numpy())): value for value in values}
    if len(subject.graphs) > 1:
        require(fed, "no graph takes what another one makes, so that this could not be tried")


def _content(array: np.ndarray) -> tuple[Any, ...]:
    return array.dtype.name, array.shape, array.tobytes()


def sessions_stand_alone(subject: ProviderOnDevice) -> None:
    """Two sessions of one graph, used in turns, do not disturb each other; one outlives the
    other."""
    for graph in subject.graphs:
        first, second = subject.open(graph), subject.open(graph)
        run = _plain_run(first, graph)
        expected = _arrays(first, run)
        other = Run({name: _changed(array) for name, array in run.inputs.items()}, run.outputs)
        second.run(other.inputs, other.outputs)
        require(_same(_arrays(first, run), expected), "the second session changed the first")
        second.close()
        require(_same(_arrays(first, run), expected), "closing one changed the other")
        first.close()


# -- loop -----------------------------------------------------------------------------------------


def a_shortened_loop_is_as_a_fresh_one(subject: ProviderOnDevice) -> None:
    """A loop that forgot its last runs goes on as one that never had them."""
    for graph, loop in _loops(subject):
        session = subject.open(graph)
        kept, again = loop.runs[:1], loop.runs[1:]
        fresh = _looped(session, loop, loop.runs)
        running = session.loop(loop.carried, loop.axis)
        for run in [*kept, *reversed(again)]:
            running.run(run.inputs, run.outputs)
        running.shorten(sum(_tokens(run) for run in kept))
        results = [_looped_run(running, run) for run in again]
        _require_close(fresh[1:], results, "after shorten() it goes on otherwise")
        session.close()


def loops_stand_alone(subject: ProviderOnDevice) -> None:
    """Begun anew, a loop knows nothing of the one before."""
    for graph, loop in _loops(subject):
        session = subject.open(graph)
        first = _looped(session, loop, loop.runs)
        second = _looped(session, loop, loop.runs)
        _require_close(first, second, "the second loop of a session differs from the first")
        session.close()


def _loops(subject: ProviderOnDevice) -> list[tuple[Graph, LoopRuns]]:
    """The graphs that feed themselves; a model for fixed shapes may have none."""
    return [(g, loop) for g in subject.graphs for loop in g.loops if len(loop.runs) > 1]


def _tokens(run: Run) -> int:
    """How much of the growing axis one run adds: the length of its only input of whole numbers."""
    [ids] = [array for array in run.inputs.values() if array.dtype.kind == "i" and array.ndim == 2]
    return int(ids.shape[1])


def _looped(session: Session, loop: LoopRuns, runs: list[Run]) -> list[list[np.ndarray]]:
    running = session.loop(loop.carried, loop.axis)
    return [_looped_run(running, run) for run in runs]


def _looped_run(loop: Any, run: Run) -> list[np.ndarray]:
    return [np.array(value.numpy()) for value in loop.run(run.inputs, run.outputs)]


def _require_close(
    first: list[list[np.ndarray]], second: list[list[np.ndarray]], reason: str
) -> None:
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            scale = float(np.abs(a).max()) if a.size else 0.0
            close = a.shape == b.shape and np.allclose(a, b, rtol=0, atol=CLOSE * max(scale, 1e-6))
            require(close, reason)


# -- profile --------------------------------------------------------------------------------------


def its_profile_lies_within_its_runs(subject: ProviderOnDevice) -> None:
    """A session that is profiled computes the same, and tells of operators within its runs."""
    with TemporaryDirectory() as folder:
        options = replace(subject.options, profile=Path(folder))
        for graph in subject.graphs:
            plain = subject.open(graph)
            run = _plain_run(plain, graph)
            profiled = subject.provider.open(graph.path, subject.device, options)
            before = time.monotonic_ns() - CLOCKS
            made = _arrays(profiled, run)
            after = time.monotonic_ns() + CLOCKS
            _require_close([_arrays(plain, run)], [made], "profiled it computes something else")
            for span in profiled.profile():
                inside = before <= span.start <= span.end <= after
                require(inside, f"{span} is not between {before} and {after}")
                require(span.name and span.kind, f"{span} has no name or no kind")
            profiled.close()
            plain.close()


# -- the real model -------------------------------------------------------------------------------


def recognises_the_check_clip(subject: ProviderOnDevice) -> None:
    """A real model writes the words that float32 on the CPU writes for the check clip."""
    model, precision = subject.model
    text = subject.recognizer.transcribe(subject.clip).text
    check_clip.compare(model.check_text, text, precision)


def computes_the_right_numbers(subject: ProviderOnDevice) -> None:
    """A real model's encoder computes the numbers that float32 on the CPU computes."""
    model, precision = subject.model
    reference = np.load(model.path(check_clip.REFERENCE))
    check_clip.compare_features(reference, subject.recognizer.features(subject.clip), precision)


CHECKS = [
    named(function)
    for function in (
        devices_have_names,
        probe_is_repeatable,
        says_its_version,
        refuses_an_unknown_device,
        refuses_a_missing_file,
        runs_where_it_was_told,
        describes_its_graph,
        refuses_a_wrong_type,
        refuses_a_strided_array,
        repeats_itself,
        leaves_its_inputs,
        values_stay_valid,
        takes_its_own_values,
        sessions_stand_alone,
        a_shortened_loop_is_as_a_fresh_one,
        loops_stand_alone,
        its_profile_lies_within_its_runs,
        recognises_the_check_clip,
        computes_the_right_numbers,
    )
]
