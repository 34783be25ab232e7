"""The same on OpenVINO 2021.4, in a Python of its own: orders on stdin, answers on stdout.

    python old_openvino_loop.py FILE

FILE is JSON: the graphs' paths, the bucket's sizes, threads, samples in a .npy file. Each line on
stdin is one partial; its answer is seconds and tokens.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from fixed_loop import DECODER, ENCODER, FixedLoop, shapes


class OldOpenVinoLoop(FixedLoop):
    """IECore's blobs, written in place."""

    def __init__(self, order: dict[str, Any]) -> None:
        from openvino.inference_engine import IECore

        super().__init__(order["sizes"])
        core = IECore()
        self._requests = {}
        for name in (ENCODER, DECODER):
            content = Path(order[name]).read_bytes()
            network = core.read_network(content, b"", init_from_buffer=True)
            for data in [*network.input_info.values(), *network.outputs.values()]:
                data.precision = "I32" if data.precision in ("I32", "I64") else "FP32"
            network.reshape({k: tuple(v) for k, v in shapes(order["sizes"])[name].items()})
            settings = {"CPU_THREADS_NUM": str(order["threads"][name]), "ENFORCE_BF16": "NO"}
            loaded = core.load_network(network, "CPU", settings, num_requests=1)
            self._requests[name] = loaded, loaded.requests[0]
        for name, inputs in shapes(order["sizes"]).items():
            for given in inputs:
                self.input(name, given)[...] = 0

    def input(self, graph: str, name: str) -> Any:
        return self._requests[graph][1].input_blobs[name].buffer

    def output(self, graph: str, name: str) -> Any:
        return self._requests[graph][1].output_blobs[name].buffer

    def infer(self, graph: str) -> None:
        self._requests[graph][1].infer()


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    loop = OldOpenVinoLoop(order)
    samples = np.load(order["samples"])
    for _ in sys.stdin:
        started = time.perf_counter()
        tokens = loop.first_tokens(samples, order["gain"], order["start"], order["tokens"])
        seconds = time.perf_counter() - started
        print(json.dumps([seconds, tokens]), flush=True)


if __name__ == "__main__":
    main()
