"""Graphs that lengthen what they are given: their caches stay inside the runtime.

A decoder takes keys and values of what it has read, and gives them back with the new ones behind
them. Compiled as a state, they never come out: only what is new crosses into Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.provider import Device, Loop, Value
from edged_openvino.profile import Profile
from edged_openvino.runtime import openvino, told
from edged_openvino.session import GraphSession, HostValue, Request, spec


def caches(graph: Any) -> dict[str, str]:
    """Inputs that an output is a longer version of, each with that output."""
    found = {}
    for output in graph.outputs:
        made_by = output.get_node().input_value(0).get_node()
        if made_by.get_type_name() != "Concat":
            continue
        first = made_by.input_value(0)
        if first.get_node().get_type_name() == "Parameter":
            found[first.get_any_name()] = output.get_any_name()
    return found


class CachedSession(GraphSession):
    """A graph with caches, compiled once: they are states of a request."""

    def __init__(
        self,
        carried: Mapping[str, str],
        graph: Any,
        device: Device,
        settings: Mapping[str, Any],
        placement: Mapping[str, int],
        profile: Profile | None = None,
    ) -> None:
        from openvino._offline_transformations import apply_make_stateful_transformation

        inputs = [spec(port) for port in graph.inputs]
        outputs = [spec(port) for port in graph.outputs]
        apply_make_stateful_transformation(graph, dict(carried))
        super().__init__(graph, device, settings, placement, profile)
        self.inputs, self.outputs = inputs, outputs
        self._carried = dict(carried)

    def loop(self, carried: Mapping[str, str], axis: int) -> Loop:
        if dict(carried) != self._carried:
            return super().loop(carried, axis)
        return StateLoop(self, carried, axis)

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        """A run from the caches that are given: they are copied in, and out if asked for."""
        states = _states(self._request, self._carried)
        new = {name: tensor for name, tensor in inputs.items() if name not in self._carried}
        grown = {output: states[name] for name, output in self._carried.items()}
        for name, state in states.items():
            given = inputs[name]
            _set(state, given.numpy() if isinstance(given, HostValue) else given)
        plain = [name for name in outputs if name not in grown]
        made = dict(zip(plain, self._request.run(new, plain), strict=True))
        return [made[name] if name in made else _copy(grown[name]) for name in outputs]


class StateLoop(Loop):
    """Runs whose caches are the states of a request of their own."""

    def __init__(self, session: GraphSession, carried: Mapping[str, str], axis: int) -> None:
        self._axis = axis
        self._request = Request(session.compiled, session.noted)
        self._states = _states(self._request, carried)

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        return self._request.run(inputs, outputs)

    def shorten(self, length: int) -> None:
        kept = (slice(None),) * self._axis + (slice(length),)
        with told("shorten its caches"):
            for state in self._states.values():
                _set(state, state.state.data[kept])


def _states(request: Request, carried: Mapping[str, str]) -> dict[str, Any]:
    """The states of a request by the input that each was; the runtime joins both names."""
    states = {state.name: state for state in request.runtime.query_state()}
    return {name: states[name + output] for name, output in carried.items()}


def _set(state: Any, array: np.ndarray) -> None:
    state.state = openvino().Tensor(np.ascontiguousarray(array))


def _copy(state: Any) -> Value:
    return HostValue(openvino().Tensor(np.array(state.state.data)))
