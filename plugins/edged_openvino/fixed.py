"""Graphs of fixed shapes: compiled for each choice of them, with caches of a fixed size inside.

A decoder reads a whole cache and returns only what is new. Compiled with the cache as a state, to
which the new is written at a place that is told, it never comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.provider import Device, OperatorSpan, Places, Session, Shape, Value
from edged_openvino.profile import Profile
from edged_openvino.runtime import openvino, told
from edged_openvino.session import HostValue, Request, compiled_for, dtype, spec

FIRST = "edged_first"
"""Input of a graph with states: the first place that new entries take"""


class Form:
    """The graph, compiled for one choice of shapes, and the inputs that it reads in place."""

    def __init__(self, compiled: Any, profile: Profile | None) -> None:
        self.request = Request(compiled, profile)
        self.arrays = {
            port.get_any_name(): np.zeros(tuple(port.shape), dtype(port))
            for port in compiled.inputs
        }

    def takes(self, inputs: Mapping[str, Any]) -> bool:
        return all(_shape(given) == self.arrays[name].shape for name, given in inputs.items())


class FixedSession(Session):
    """A graph that is compiled for the shapes that are asked for, once for each choice."""

    def __init__(
        self,
        graph: Any,
        device: Device,
        settings: Mapping[str, Any],
        placement: Mapping[str, int],
        profile: Profile | None = None,
    ) -> None:
        self.device = device
        self.inputs = [spec(port) for port in graph.inputs]
        self.outputs = [spec(port) for port in graph.outputs]
        self.placement = placement
        self._graph = graph
        self._settings = settings
        self._profile = profile
        self._forms: dict[tuple[tuple[str, Shape], ...], Form] = {}
        self._form: Form | None = None

    def places(self, carried: Mapping[str, str], axis: int) -> Places:
        return StatePlaces(self, carried, axis)

    def compile(self, shapes: Mapping[str, Shape], states: Mapping[str, str], axis: int) -> Form:
        """For these shapes, with these inputs as states. Raises ProviderError."""
        sizes = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        with told(f"compile a graph for {sizes}"):
            graph = self._graph.clone()
            graph.reshape({name: list(shape) for name, shape in shapes.items()})
            if states:
                _keep_inside(graph, states, axis)
            return Form(compiled_for(graph, self.device, self._settings), self._profile)

    def _form_of(self, shapes: Mapping[str, Shape]) -> Form:
        key = tuple(sorted(shapes.items()))
        if key not in self._forms:
            self._forms[key] = self.compile(shapes, {}, 0)
        return self._forms[key]

    def _new_arrays(self, shapes: Mapping[str, Shape]) -> Mapping[str, np.ndarray]:
        self._form = self._form_of(shapes)
        for array in self._form.arrays.values():
            array[...] = 0
        return self._form.arrays

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        if self._form is None or not self._form.takes(inputs):
            self._form = self._form_of({name: _shape(given) for name, given in inputs.items()})
        return self._form.request.run(inputs, outputs)

    def profile(self) -> Sequence[OperatorSpan]:
        return self._profile.end() if self._profile else ()

    def close(self) -> None:
        self._forms, self._form, self._arrays = {}, None, {}


class StatePlaces(Places):
    """A cache that is the states of a compiled graph."""

    def __init__(self, session: FixedSession, carried: Mapping[str, str], axis: int) -> None:
        self._fixed = session
        self._carried = carried
        self._axis = axis
        self._forms: dict[tuple[tuple[str, Shape], ...], Form] = {}

    def arrays(self, shapes: Mapping[str, Shape]) -> Mapping[str, np.ndarray]:
        key = tuple(sorted(shapes.items()))
        if key not in self._forms:
            self._forms[key] = self._fixed.compile(shapes, self._carried, self._axis)
        self._form = self._forms[key]
        self._states = {state.name: state for state in self._form.request.runtime.query_state()}
        return self._form.arrays

    def run(
        self, inputs: Mapping[str, Any], outputs: Sequence[str], first: int, count: int
    ) -> list[Value]:
        where = self._form.arrays[FIRST]
        where[...] = first
        return self._form.request.run({**inputs, FIRST: where}, outputs)

    def take(self, other: Places, first: int, last: int) -> None:
        with told("copy its caches"):
            for name, state in self._states.items():
                held = self.held(name)
                held[self._from(first, last)] = other.held(name)[self._from(first, last)]
                state.state = openvino().Tensor(held)

    def held(self, name: str) -> np.ndarray:
        return np.array(self._states[name].state.data)


def _keep_inside(graph: Any, states: Mapping[str, str], axis: int) -> None:
    """Make states of inputs: what a run returns as new is written into them, from a place on that
    is a further input. Behind the places that are read a state has room for what is new but not
    meant: the padding of a run near the end."""
    from openvino import opset13 as operators

    inputs = {port.get_any_name(): port.get_node() for port in graph.inputs}
    outputs = {port.get_any_name(): port.get_node() for port in graph.outputs}
    first = operators.parameter([], np.int32, name=FIRST)
    first.output(0).get_tensor().set_names({FIRST})
    kept = []
    for name, made in states.items():
        old, new = inputs[name], outputs[made].input_value(0)
        size, count = list(old.get_output_shape(0)), new.get_shape()[axis]
        read = size[axis]
        size[axis] += count - 1
        nothing = operators.constant(np.zeros(size, old.get_element_type().to_dtype()))
        state = operators.read_value(nothing, name, old.get_element_type(), size)
        whole = operators.slice(state, [0], [read], [1], [axis]) if count > 1 else state
        for reader in old.output(0).get_target_inputs():
            reader.replace_source_output(whole.output(0))
        places = operators.add(first, operators.constant(np.arange(count, dtype=np.int32)))
        where = operators.constant(np.int32(axis))
        kept.append(operators.assign(operators.scatter_update(state, places, new, where), name))
        graph.remove_result(outputs[made])
        graph.remove_parameter(old)
    graph.add_parameters([first])
    graph.add_sinks(kept)


def _shape(given: Any) -> Shape:
    return tuple(given.tensor.shape) if isinstance(given, HostValue) else given.shape
