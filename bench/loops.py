"""Partials by hand: each runtime's own interface over the files that edged's rungs read.

What somebody would write who needed one model on one runtime. Threads and other settings are those
that edged's providers give it, so that what is compared is the way through edged.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.fixed_loop import DECODER, ENCODER, FixedLoop, shapes
from edged.models.bucket import Bucket, columns_of, frames_of

OLD_LOOP = Path(__file__).with_name("old_openvino_loop.py")
GRAPHS = (ENCODER, DECODER)


@dataclass(frozen=True, slots=True)
class Task:
    """A partial to make."""

    samples: np.ndarray
    gain: float
    padding: int
    """Samples of silence on each side"""
    start: int
    """The token that a text begins with"""
    tokens: int
    files: Mapping[str, Path]
    """By graph"""
    threads: Mapping[str, int]
    precision: str
    layers: int
    heads: int
    width: int

    def sizes(self, bucket: Bucket) -> dict[str, int]:
        """For `fixed_loop.py`."""
        length = len(self.samples) + 2 * self.padding
        return {
            "samples": bucket.samples,
            "columns": bucket.columns,
            "frames": bucket.frames,
            "places": bucket.places,
            "heard_columns": columns_of(length),
            "heard_frames": frames_of(length),
            "padding": self.padding,
            "layers": self.layers,
            "heads": self.heads,
            "width": self.width,
        }


class Hand(ABC):
    """One way to make a partial."""

    @abstractmethod
    def partial(self) -> tuple[float, list[int]]:
        """Seconds that it took, and its tokens."""

    def close(self) -> None:  # noqa: B027  most hold nothing
        """Let go of what it holds."""


class _Here(Hand):
    """In this process."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def partial(self) -> tuple[float, list[int]]:
        started = time.perf_counter()
        tokens = self.make()
        return time.perf_counter() - started, tokens

    @abstractmethod
    def make(self) -> list[int]: ...


class OnnxRuntimeHand(_Here):
    """Open shapes; keys and values go from run to run as the runtime's own values."""

    def __init__(self, task: Task) -> None:
        import onnxruntime

        super().__init__(task)
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._sessions = {}
        for name in GRAPHS:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = task.threads[name]
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.enable_mem_pattern = False
            options.log_severity_level = 3
            self._sessions[name] = onnxruntime.InferenceSession(
                str(task.files[name]), options, providers=["CPUExecutionProvider"]
            )
        self._cross = [output.name for output in self._sessions[ENCODER].get_outputs()]
        outputs = [output.name for output in self._sessions[DECODER].get_outputs()]
        self._present = [name for name in outputs if name.startswith("present")]

    def make(self) -> list[int]:
        task, value = self.task, self._value
        heard = {
            "audio": value(task.samples[None]),
            "gain": value(np.array([task.gain], np.float32)),
            "padding": value(np.array([task.padding, task.padding], np.int64)),
        }
        made = self._sessions[ENCODER].run_with_ort_values(self._cross, heard)
        feeds = dict(zip(self._cross, made, strict=True))
        for past in self._sessions[DECODER].get_inputs():
            if past.name.startswith("past"):
                kind = np.float16 if past.type == "tensor(float16)" else np.float32
                feeds[past.name] = value(np.zeros((1, task.heads, 0, task.width), kind))
        wanted = ["next_token", "log_probability", *self._present]
        tokens = [task.start]
        for _ in range(task.tokens):
            feeds["input_ids"] = value(np.array([tokens[-1:]], np.int64))
            chosen, _likely, *present = self._sessions[DECODER].run_with_ort_values(wanted, feeds)
            tokens.append(int(chosen.numpy()[0, 0]))
            for name, one in zip(self._present, present, strict=True):
                feeds[name.replace("present", "past")] = one
        return tokens[1:]


def _openvino_settings(task: Task, graph: str) -> dict[str, Any]:
    hint = "bf16" if task.precision == "bf16" else "f32"
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": task.threads[graph],
        "ENABLE_CPU_PINNING": False,
    }


class OpenVinoHand(_Here):
    """Open shapes; keys and values are the decoder's state."""

    def __init__(self, task: Task) -> None:
        import openvino
        from openvino._offline_transformations import apply_make_stateful_transformation

        super().__init__(task)
        core = openvino.Core()
        self._tensor = openvino.Tensor
        self._requests = {}
        for name in GRAPHS:
            graph = core.read_model(task.files[name])
            if name == DECODER:
                past = [i.get_any_name() for i in graph.inputs if "past" in i.get_any_name()]
                carried = {name: name.replace("past", "present") for name in past}
                apply_make_stateful_transformation(graph, carried)
            compiled = core.compile_model(graph, "CPU", _openvino_settings(task, name))
            self._requests[name] = compiled.create_infer_request()
        self._cross = [
            name
            for output in self._requests[ENCODER].model_outputs
            for name in output.get_names()
            if name.startswith("cross")
        ]

    def make(self) -> list[int]:
        task, tensor = self.task, self._tensor
        encoder, decoder = self._requests[ENCODER], self._requests[DECODER]
        held = [
            task.samples[None],
            np.array([task.gain], np.float32),
            np.array([task.padding, task.padding], np.int64),
        ]
        for name, array in zip(("audio", "gain", "padding"), held, strict=True):
            encoder.set_tensor(name, tensor(array, shared_memory=True))
        encoder.infer()
        for name in self._cross:
            decoder.set_tensor(name, encoder.get_tensor(name))
        decoder.reset_state()
        tokens = [task.start]
        for _ in range(task.tokens):
            decoder.set_tensor("input_ids", tensor(np.array([tokens[-1:]], np.int64)))
            decoder.infer()
            float(decoder.get_tensor("log_probability").data[0, 0])
            tokens.append(int(decoder.get_tensor("next_token").data[0, 0]))
        return tokens[1:]


class _FixedHand(_Here, FixedLoop):
    def __init__(self, task: Task, bucket: Bucket) -> None:
        _Here.__init__(self, task)
        FixedLoop.__init__(self, task.sizes(bucket))
        self.shapes = shapes(self.sizes)

    def make(self) -> list[int]:
        task = self.task
        return self.first_tokens(task.samples, task.gain, task.start, task.tokens)


class FixedOpenVinoHand(_FixedHand):
    """Arrays that the runtime reads in place."""

    def __init__(self, task: Task, bucket: Bucket) -> None:
        import openvino

        super().__init__(task, bucket)
        core = openvino.Core()
        self._requests, self._inputs, self._outputs = {}, {}, {}
        for name in GRAPHS:
            graph = core.read_model(task.files[name].read_bytes())
            graph.reshape(self.shapes[name])
            settings = _openvino_settings(task, name)
            if task.precision == "bf16":
                settings["SNIPPETS_MODE"] = "DISABLE"
            compiled = core.compile_model(graph, "CPU", settings)
            request = self._requests[name] = compiled.create_infer_request()
            for port in compiled.inputs:
                array = np.zeros(tuple(port.shape), port.get_element_type().to_dtype())
                self._inputs[name, port.get_any_name()] = array
                request.set_tensor(port, openvino.Tensor(array, shared_memory=True))
            for port in compiled.outputs:
                for word in port.get_names():
                    self._outputs[name, word] = request.get_tensor(port)

    def input(self, graph: str, name: str) -> Any:
        return self._inputs[graph, name]

    def output(self, graph: str, name: str) -> Any:
        return self._outputs[graph, name].data

    def infer(self, graph: str) -> None:
        self._requests[graph].infer(share_outputs=True)


class LiteRtHand(_FixedHand):
    """The interpreter's own tensors."""

    def __init__(self, task: Task, bucket: Bucket) -> None:
        from ai_edge_litert.interpreter import Interpreter

        super().__init__(task, bucket)
        self._interpreters, self._inputs, self._outputs = {}, {}, {}
        for name in GRAPHS:
            made = Interpreter(str(task.files[name]), num_threads=task.threads[name])
            for details in made.get_input_details():
                made.resize_tensor_input(details["index"], self.shapes[name][details["name"]])
                self._inputs[name, details["name"]] = details["index"]
            for details in made.get_output_details():
                self._outputs[name, details["name"]] = details["index"]
            made.allocate_tensors()
            self._interpreters[name] = made
        for graph, name in self._inputs:
            self.input(graph, name)[...] = 0

    def input(self, graph: str, name: str) -> Any:
        return self._interpreters[graph].tensor(self._inputs[graph, name])()

    def output(self, graph: str, name: str) -> Any:
        return self._interpreters[graph].tensor(self._outputs[graph, name])()

    def infer(self, graph: str) -> None:
        self._interpreters[graph].invoke()


class OldOpenVinoHand(Hand):
    """In the Python of OpenVINO 2021.4."""

    def __init__(self, task: Task, bucket: Bucket, python: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="edged-bench-")
        folder = Path(self._folder.name)
        np.save(folder / "samples.npy", task.samples)
        order = {
            **{name: str(path) for name, path in task.files.items()},
            "sizes": task.sizes(bucket),
            "threads": dict(task.threads),
            "samples": str(folder / "samples.npy"),
            "gain": task.gain,
            "start": task.start,
            "tokens": task.tokens,
        }
        (folder / "order.json").write_text(json.dumps(order))
        self._process = subprocess.Popen(
            [python, "-E", "-s", OLD_LOOP, folder / "order.json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def partial(self) -> tuple[float, list[int]]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds, tokens = json.loads(self._process.stdout.readline())
        return seconds, tokens

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)
        self._folder.cleanup()
