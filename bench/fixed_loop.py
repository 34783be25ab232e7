"""A partial by hand over graphs of fixed shapes, on whatever runtime is wrapped around it.

numpy alone, and a Python from 3.6 on: `old_openvino_loop.py` runs it too.
"""

from typing import Any

import numpy as np

MASKED = -30000.0
ENCODER, DECODER = "encoder", "decoder"


def shapes(sizes: dict[str, int]) -> dict[str, dict[str, list[int]]]:
    """By graph and input; `sizes` are those of a bucket and of a model."""
    frames, places, layers = sizes["frames"], sizes["places"], sizes["layers"]
    heads, width = sizes["heads"], sizes["width"]
    decoder = {
        "tokens": [1, 1],
        "positions": [1],
        "token_mask": [1, 1, 1, places + 1],
        "frame_mask": [1, 1, 1, frames],
    }
    for layer in range(layers):
        decoder[f"past_k_{layer}"] = [1, heads, places, width]
        decoder[f"past_v_{layer}"] = [1, heads, places, width]
        decoder[f"cross_k_{layer}"] = [1, heads, width, frames]
        decoder[f"cross_v_{layer}"] = [1, heads, frames, width]
    encoder = {
        "audio": [1, sizes["samples"]],
        "norm_mask": [1, sizes["columns"], 1],
        "frame_mask": [1, 1, 1, frames],
        "positions": [frames],
    }
    return {ENCODER: encoder, DECODER: decoder}


class FixedLoop:
    """One bucket, one token a run, the cache in the runtime's own inputs."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes

    def input(self, graph: str, name: str) -> Any:
        """Memory to write into."""
        raise NotImplementedError

    def output(self, graph: str, name: str) -> Any:
        raise NotImplementedError

    def infer(self, graph: str) -> None:
        raise NotImplementedError

    def first_tokens(self, samples: np.ndarray, gain: float, start: int, count: int) -> list[int]:
        """Of what is said."""
        self._encode(samples, gain)
        frames, places = self.sizes["heard_frames"], self.sizes["places"]
        self._mask("frame_mask", frames)
        self._mask("token_mask", 0)
        self.input(DECODER, "token_mask")[..., places] = 0
        chosen, last = [], start
        for place in range(count):
            self.input(DECODER, "tokens")[...] = last
            self.input(DECODER, "positions")[...] = place
            self.infer(DECODER)
            last = int(self.output(DECODER, "next_token").reshape(-1)[0])
            float(self.output(DECODER, "log_probability").reshape(-1)[0])
            for layer in range(self.sizes["layers"]):
                for kind in "kv":
                    past, new = f"past_{kind}_{layer}", f"new_{kind}_{layer}"
                    self.input(DECODER, past)[:, :, place] = self.output(DECODER, new)[:, :, 0]
            self.input(DECODER, "token_mask")[..., place] = 0
            chosen.append(last)
        return chosen

    def _encode(self, samples: np.ndarray, gain: float) -> None:
        padding, columns = self.sizes["padding"], self.sizes["heard_columns"]
        audio = self.input(ENCODER, "audio")
        audio[...] = 0
        audio[0, padding : padding + len(samples)] = samples * np.float32(gain)
        del audio
        self.input(ENCODER, "norm_mask")[...] = 0
        self.input(ENCODER, "norm_mask")[0, :columns] = 1 / columns
        self.input(ENCODER, "frame_mask")[...] = MASKED
        self.input(ENCODER, "frame_mask")[..., : self.sizes["heard_frames"]] = 0
        self.input(ENCODER, "positions")[:] = np.arange(self.sizes["frames"])
        self.infer(ENCODER)
        for layer in range(self.sizes["layers"]):
            for kind in "kv":
                name = f"cross_{kind}_{layer}"
                self.input(DECODER, name)[...] = self.output(ENCODER, name)

    def _mask(self, name: str, length: int) -> None:
        self.input(DECODER, name)[...] = MASKED
        self.input(DECODER, name)[..., :length] = 0
