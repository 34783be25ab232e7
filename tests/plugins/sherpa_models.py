"""Tiny models that sherpa-onnx loads: random weights, the graphs and metadata of real ones.

They write nonsense, but it depends on every sample and, where they stream, on what came before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MELS = 80
HIDDEN = 24
WORDS = ("on", "the", "air", "we", "hear", "nine", "birds", "sing", "of", "more")
PIECES = ("s", "ed", "ing", "er", "ly", "o", "a")
TOKENS = ("<blk>", *(f"▁{word}" for word in WORDS), *PIECES)
CHUNK, LOOKED_AT = 16, 23
"""Feature frames by which a streaming model goes on, and that it sees"""


def write_tokens(folder: Path) -> None:
    lines = [f"{token} {number}" for number, token in enumerate(TOKENS)]
    (folder / "tokens.txt").write_text("\n".join(lines) + "\n", "utf-8")


def write_bpe_vocabulary(folder: Path) -> None:
    """With which hotwords are spelt in tokens."""
    lines = [f"{token}\t{-1.0 - number / 10}" for number, token in enumerate(TOKENS)]
    (folder / "bpe.vocab").write_text("\n".join(lines) + "\n", "utf-8")


class Graph:
    """Nodes and weights as they come."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self._random.normal(0, scale / shape[0] ** 0.5, shape))

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def shape(self, *sizes: int) -> str:
        return self.constant(sizes, np.int64)

    def __call__(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        name = out or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def hidden(self, features: str, width: int, state: str = "") -> str:
        """Features [.., width] to [.., HIDDEN], about a third of the sum the state's."""
        scaled = self("Mul", features, self.constant(0.15))
        y = self("MatMul", scaled, self.weight(width, HIDDEN, scale=1.5))
        return self(
            "Tanh",
            self("Add", y, self("MatMul", state, self.weight(HIDDEN, HIDDEN))) if state else y,
        )

    def logits(self, hidden: str, blank: float) -> str:
        bias = [blank, *[0.0] * (len(TOKENS) - 1)]
        y = self("MatMul", hidden, self.weight(HIDDEN, len(TOKENS), scale=9.0))
        return self("Add", y, self.constant(bias))

    def save(
        self,
        path: Path,
        inputs: Mapping[str, tuple[int, Sequence[Any]]],
        outputs: Mapping[str, tuple[int, Sequence[Any]]],
        metadata: Mapping[str, Any],
    ) -> None:
        infos = [
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in s.items()]
            for s in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, "tiny", *infos, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        onnx.save(model, path)


FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32


def _frames(graph: Graph, x: str) -> str:
    """The frames of a chunk that are its own, four to a step: [1, CHUNK / 4, 4 * MELS]."""
    own = graph("Slice", x, graph.shape(0), graph.shape(CHUNK), graph.shape(1))
    return graph("Reshape", own, graph.shape(1, CHUNK // 4, 4 * MELS))


def _last(graph: Graph, hidden: str) -> str:
    """The last step of a chunk."""
    ends = graph.shape(CHUNK // 4 - 1), graph.shape(CHUNK // 4)
    return graph("Slice", hidden, *ends, graph.shape(1))


def online_ctc(folder: Path, seed: int = 1, name: str = "model.onnx") -> Path:
    """A streaming CTC model, of a Zipformer2's inputs: one of its states is used."""
    graph = Graph(seed)
    shapes: dict[str, list[Any]] = {
        "cached_key_0": [4, 1, 4],
        "cached_nonlin_attn_0": [1, 1, 4, 3 * HIDDEN // 4],
        "cached_val1_0": [4, 1, 4],
        "cached_val2_0": [4, 1, 4],
        "cached_conv1_0": [1, HIDDEN, 1],
        "cached_conv2_0": [1, HIDDEN, 1],
        "embed_states": [1, 128, 3, 19],
        "processed_lens": [1],
    }
    before = graph("Transpose", "cached_conv1_0", perm=[0, 2, 1])
    hidden = graph.hidden(_frames(graph, "x"), 4 * MELS, before)
    graph("LogSoftmax", graph.logits(hidden, blank=4.0), out="log_probs", axis=-1)
    last = graph(
        "Slice", hidden, graph.shape(CHUNK // 4 - 1), graph.shape(CHUNK // 4), graph.shape(1)
    )
    graph("Transpose", last, perm=[0, 2, 1], out="new_cached_conv1_0")
    for state in shapes:
        if state != "cached_conv1_0":
            graph("Identity", state, out=f"new_{state}")
    kinds = {state: INT64 if state == "processed_lens" else FLOAT for state in shapes}
    graph.save(
        folder / name,
        {"x": (FLOAT, ["N", LOOKED_AT, MELS])} | {s: (kinds[s], shapes[s]) for s in shapes},
        {"log_probs": (FLOAT, ["N", CHUNK // 4, len(TOKENS)])}
        | {f"new_{s}": (kinds[s], shapes[s]) for s in shapes},
        {
            "model_type": "zipformer2",
            "encoder_dims": HIDDEN,
            "query_head_dims": 4,
            "value_head_dims": 4,
            "num_heads": 1,
            "num_encoder_layers": 1,
            "cnn_module_kernels": 3,
            "left_context_len": 4,
            "T": LOOKED_AT,
            "decode_chunk_len": CHUNK,
        },
    )
    write_tokens(folder)
    return folder


def online_transducer(folder: Path, seed: int = 2, ending: str = ".onnx") -> Path:
    """A streaming transducer, of an LSTM's inputs."""
    graph = Graph(seed)
    hidden = graph.hidden(_frames(graph, "x"), 4 * MELS, "h")
    graph("Identity", hidden, out="encoder_out")
    graph(
        "Slice",
        hidden,
        graph.shape(CHUNK // 4 - 1),
        graph.shape(CHUNK // 4),
        graph.shape(1),
        out="next_h",
    )
    graph("Identity", "c", out="next_c")
    state = (FLOAT, [1, "N", HIDDEN])
    graph.save(
        folder / f"encoder{ending}",
        {"x": (FLOAT, ["N", LOOKED_AT, MELS]), "h": state, "c": state},
        {"encoder_out": (FLOAT, ["N", CHUNK // 4, HIDDEN]), "next_h": state, "next_c": state},
        {
            "model_type": "lstm",
            "num_encoder_layers": 1,
            "T": LOOKED_AT,
            "decode_chunk_len": CHUNK,
            "rnn_hidden_size": HIDDEN,
            "d_model": HIDDEN,
        },
    )
    graph = Graph(seed + 100)
    embedded = graph("Gather", graph.weight(len(TOKENS), HIDDEN, scale=3.0), "y")
    graph("ReduceMean", embedded, axes=[1], keepdims=0, out="decoder_out")
    graph.save(
        folder / f"decoder{ending}",
        {"y": (INT64, ["N", 2])},
        {"decoder_out": (FLOAT, ["N", HIDDEN])},
        {"vocab_size": len(TOKENS), "context_size": 2},
    )
    graph = Graph(seed + 200)
    summed = graph("Tanh", graph("Add", "encoder_out", "decoder_out"))
    graph("Identity", graph.logits(summed, blank=2.0), out="logit")
    graph.save(
        folder / f"joiner{ending}",
        {"encoder_out": (FLOAT, ["N", HIDDEN]), "decoder_out": (FLOAT, ["N", HIDDEN])},
        {"logit": (FLOAT, ["N", len(TOKENS)])},
        {"joiner_dim": HIDDEN},
    )
    write_tokens(folder)
    return folder


def offline_ctc(folder: Path, seed: int = 3) -> Path:
    """A CTC model of NeMo's inputs that hears an utterance whole."""
    graph = Graph(seed)
    frames = graph("Transpose", "audio_signal", perm=[0, 2, 1])
    mean = graph("ReduceMean", frames, axes=[1], keepdims=1)
    hidden = graph.hidden(graph("Add", frames, mean), MELS)
    graph("LogSoftmax", graph.logits(hidden, blank=4.0), out="logprobs", axis=-1)
    graph.save(
        folder / "model.onnx",
        {"audio_signal": (FLOAT, ["N", MELS, "T"]), "length": (INT64, ["N"])},
        {"logprobs": (FLOAT, ["N", "T", len(TOKENS)])},
        {
            "model_type": "EncDecCTCModelBPE",
            "vocab_size": len(TOKENS) - 1,
            "subsampling_factor": 1,
            "normalize_type": "per_feature",
        },
    )
    # NeMo's blank comes last.
    moved = [*TOKENS[1:], "<blk>"]
    lines = [f"{token} {number}" for number, token in enumerate(moved)]
    (folder / "tokens.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder
