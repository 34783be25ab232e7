"""How much each layer of a graph suffers when it alone is quantised.

Where a graph chooses (ArgMax), what suffers is the choice: the Kullback-Leibler divergence of its
probabilities from float32's, in nats a choice. Elsewhere it is its outputs: their difference from
float32's as a share of their size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from edged.models.calibration import Feed
from edged.models.check import difference
from edged.models.quantize import layers
from edged.models.trial import Trial

Quantize = Callable[[Any, Collection[str]], Any]
"""Quantises a graph in place but for the layers named"""


def losses(model: Any, feeds: Sequence[Feed], quantize: Quantize) -> Iterator[tuple[str, float]]:
    """Each layer's name and loss over these runs, as it becomes known."""
    import onnx

    judged = _Judged(model, feeds)
    names = list(layers(model))
    for name in names:
        alone = onnx.ModelProto()
        alone.CopyFrom(model)
        yield name, judged.loss(quantize(alone, [other for other in names if other != name]))


class _Judged:
    """What a float32 graph makes of some runs, for others to be held against."""

    def __init__(self, model: Any, feeds: Sequence[Feed]) -> None:
        graph = model.graph
        choices = [node.input[0] for node in graph.node if node.op_type == "ArgMax"]
        self._is_choice = bool(choices)
        self._names = choices or [value.name for value in graph.output]
        self._feeds = feeds
        self._references = self._outputs(model)

    def _outputs(self, model: Any) -> list[list[np.ndarray]]:
        trial = Trial(model, self._names)
        return [trial.run(feed, self._names) for feed in self._feeds]

    def loss(self, model: Any) -> float:
        """Of another graph with the same outputs."""
        compared = zip(self._references, self._outputs(model), strict=True)
        measure = divergence if self._is_choice else difference
        return float(
            np.mean(
                [
                    measure(reference, made)
                    for pair in compared
                    for reference, made in zip(*pair, strict=True)
                ]
            )
        )


def divergence(reference: np.ndarray, logits: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence of the choices along the last axis, in nats."""
    expected, actual = _log_softmax(reference), _log_softmax(logits)
    return float((np.exp(expected) * (expected - actual)).sum(axis=-1).mean())


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
