"""Proves a rung by real inference, in a process that may crash, hang or print what it likes.

    python -m edged.engine.prove --rung JSON --model FOLDER [--options JSON]    JSON on stdout

It loads the rung as a worker does, recognises the check clip, holds text and numbers against what
float32 made of it on the CPU, and measures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edged.elsewhere import interpreter, require
from edged.engine.launch import worker_environment
from edged.engine.process import (
    Stillness,
    family,
    kill_group,
    signal_name,
)
from edged.engine.worker import find_device, keep_to, opener
from edged.errors import EdgedError, ProviderError
from edged.messages import Rung, WorkerOptions
from edged.parent import answer_only
from edged.provider import Loop, Opener, Places, Session, Shape, Value, devices
from edged.recognizer import SAMPLE_RATE

if TYPE_CHECKING:
    import numpy as np

    from edged.models.store import Model
    from edged.recognizer import Recognizer

RECOGNITIONS = 15
"""Of the check clip, warm, for the latency's distribution"""
SAME_NUMBERS = 0.01
"""Difference up to which a rung computes what float32 does, so that it need not write as long"""
DEADLINE_SECONDS = 300.0
"""Longest proof: some devices compile for minutes"""
STALL_SECONDS = 20.0
"""Longest time in which a proof takes no time of the processor"""
POLL_SECONDS = 0.05
LAST_BYTES = 1 << 16
"""Of what a proof prints, so much is kept"""
BYTES_OF_FP32 = 4


class GraphRate(msgspec.Struct, frozen=True):
    """What one graph of a rung did in the warm recognitions, by the products that are counted."""

    seconds: float
    """Of one recognition"""
    gigaflops: float
    """Billions of operations a second"""
    operations_per_byte: float
    """Of the weights that it reads: one pass of them a run"""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a rung did when it was tried. What could not be measured is null."""

    rung: Rung
    ok: bool
    """It loads, and writes and computes what float32 on the CPU does"""
    code: str | None = None
    """Why it is refused, for programs: crashed, hung, garbage, wrong_text, wrong_numbers, on_cpu,
    provider, device_missing, model_missing and other codes of errors; partly_on_cpu where it is
    `ok` but less than what was asked for"""
    reason: str | None = None
    """The same for people"""
    time: float
    """When it was tried: Unix time, seconds"""
    runtime: str | None = None
    """The runtime's name and version"""
    kind: str | None = None
    """Of the device: cpu, gpu, npu, tpu or dsp"""
    placement: dict[str, int] = {}
    """Operators of all graphs by the device that they run on; empty where the runtime cannot tell
    """
    text: str | None = None
    """What it wrote for the check clip"""
    word_error_rate: float | None = None
    """Of the check clip's text against float32's"""
    gate_error_rate: float | None = None
    """The same over a minute of speech; not tried where the numbers are float32's"""
    difference: float | None = None
    """Root mean square of the encoder's numbers off float32's, as a share of their size"""
    load_seconds: float | None = None
    cold_seconds: float | None = None
    """The first recognition of the check clip"""
    warm_p50_seconds: float | None = None
    """The cost of one partial over the whole check clip, decoded without a draft"""
    warm_p99_seconds: float | None = None
    """Of 15 recognitions, so that it is nearly the slowest"""
    warm_p99_ratio: float | None = None
    """p99 / p50"""
    real_time_factor: float | None = None
    """p50 / length of the clip"""
    peak_memory_bytes: int | None = None
    """Resident memory of the whole process and its children at its highest"""
    gigaflops: float | None = None
    """Billions of operations a second in the products with constants, of which a multiplication
    with its addition counts two: at one row a frame in the encoder and one a token in the decoder.
    The rest of the work is not counted, nor the further rows of the first convolutions: a tenth."""
    gigaflops_share: float | None = None
    """Of the measured peak of the processor in float32; null on other devices"""
    gigabytes_per_second: float | None = None
    """Weights of those products, read once by the encoder and once a token by the decoder"""
    gigabytes_share: float | None = None
    """Of the measured peak of the memory, copied by one thread; null on other devices"""
    graphs: dict[str, GraphRate] = {}
    """The encoder's and the decoder's share of that; empty where nothing is counted"""


# -- in the process that may be lost --------------------------------------------------------------


def prove(rung: Rung, folder: Path, options: WorkerOptions) -> Verdict:
    """Try a rung in this process."""
    facts: dict[str, Any] = {"ok": True}
    try:
        for known in _facts(rung, folder, options):
            # Now, because a runtime that lives in a process of its own ends with its sessions.
            facts |= {**known, "peak_memory_bytes": _peak_memory()}
    except EdgedError as error:
        facts |= {"ok": False, "code": error.code, "reason": error.message}
    except Exception as error:  # noqa: BLE001  a stranger's code
        facts |= {"ok": False, "code": ProviderError.code, "reason": repr(error)}
    return Verdict(rung=rung, time=time.time(), **facts)


def _facts(rung: Rung, folder: Path, options: WorkerOptions) -> Iterator[dict[str, Any]]:
    """What a verdict holds, as it becomes known. Raises EdgedError."""
    from edged.models import check
    from edged.models.store import read_model
    from edged.plugins import Plugins

    model = read_model(folder)
    require(rung.provider, options.extra)
    plugins = Plugins.discover()
    provider = plugins.provider(rung.provider)
    endings = provider.formats_on(rung.device)
    model.verify(rung.precision, endings)
    clip = check.read_clip(model.path(check.CHECK_CLIP))
    started = time.monotonic()
    found = devices(provider, options.extra.get(provider.name, {}))
    device = find_device(rung.provider, found, rung.device)
    graphs = _Graphs(opener(provider, device, rung.precision, options, inspect=True))
    yield {"runtime": f"{rung.provider} {provider.version()}", "kind": device.kind}
    recognizer = plugins.recognizer(model.family)(model, rung.precision, graphs)
    yield {"load_seconds": time.monotonic() - started}
    yield graphs.placed()
    yield {"cold_seconds": _recognition(recognizer, clip)}
    yield from _compared(model, rung.precision, recognizer, clip)
    graphs.reset()
    yield from _timed(recognizer, clip, graphs, _Work.of(model, rung.precision, endings))


def _compared(
    model: Model, precision: str, recognizer: Recognizer, clip: np.ndarray
) -> Iterator[dict[str, Any]]:
    import numpy as np

    from edged.models import check

    reference = np.load(model.path(check.REFERENCE))
    features = recognizer.features(clip)
    off = check.difference(reference, features)
    yield {"difference": off if np.isfinite(off) else None}
    text = recognizer.transcribe(clip).text
    yield {"text": text, "word_error_rate": check.word_error_rate(model.check_text, text)}
    check.compare_features(reference, features, precision)
    check.compare(model.check_text, text, precision)
    if off > SAME_NUMBERS:
        texts = [
            recognizer.transcribe(check.read_clip(model.path(name))).text for name in model.gate
        ]
        known = list(model.gate.values())
        yield {"gate_error_rate": check.gate_error_rate(known, texts)}
        check.compare_gate(known, texts, precision)


def _recognition(recognizer: Recognizer, clip: np.ndarray) -> float:
    """How long one partial of the clip takes, in seconds."""
    started = time.perf_counter()
    recognizer.start().advance(clip)
    return time.perf_counter() - started


def _timed(
    recognizer: Recognizer, clip: np.ndarray, graphs: _Graphs, work: _Work | None
) -> Iterator[dict[str, Any]]:
    import numpy as np

    seconds = [_recognition(recognizer, clip) for _ in range(RECOGNITIONS)]
    p50, p99 = (float(np.percentile(seconds, percent)) for percent in (50, 99))
    yield {"warm_p50_seconds": p50, "warm_p99_seconds": p99, "warm_p99_ratio": p99 / p50}
    yield {"real_time_factor": p50 / (len(clip) / SAMPLE_RATE)}
    if work:
        frames = len(clip) / work.samples_per_frame
        tokens = graphs.runs("decoder") / RECOGNITIONS
        yield work.rates(frames, tokens, p50)
        taken = {name: graphs.seconds(name) / RECOGNITIONS for name in ("encoder", "decoder")}
        yield {"graphs": dict(work.graph_rates(frames, tokens, taken))}


class _Work(msgspec.Struct, frozen=True):
    """What the products of a model's graphs read and compute."""

    samples_per_frame: int
    encoder_weights: int
    decoder_weights: int
    encoder_bytes: int
    decoder_bytes: int

    @classmethod
    def of(cls, model: Model, precision: str, endings: Collection[str]) -> _Work | None:
        """As it was counted when the model was built; None if it was not."""
        from edged.models.store import formats_of, stored_as
        from edged.models.work import work_name

        counted = (model.work or {}).get("bytes", {})
        formats = formats_of(endings)
        stored = stored_as(precision)
        name = next((work_name(p) for p in model.parts if p[0] == stored and p[1] in formats), "")
        if model.work is None or "fp32" not in counted or name not in counted:
            return None
        weights = {graph: size // BYTES_OF_FP32 for graph, size in counted["fp32"].items()}
        size = counted[name]
        return cls(
            model.work["samples_per_frame"],
            weights["encoder"],
            weights["decoder"],
            size["encoder"],
            size["decoder"],
        )

    def rates(self, frames: float, tokens: float, seconds: float) -> dict[str, Any]:
        products = self.encoder_weights * frames + self.decoder_weights * tokens
        read = self.encoder_bytes + self.decoder_bytes * tokens
        return {
            "gigaflops": 2 * products / seconds / 1e9,
            "gigabytes_per_second": read / seconds / 1e9,
        }

    def graph_rates(
        self, frames: float, tokens: float, seconds: Mapping[str, float]
    ) -> Iterator[tuple[str, GraphRate]]:
        """The same for each graph that took time."""
        encoder = (2 * self.encoder_weights * frames, self.encoder_bytes)
        decoder = (2 * self.decoder_weights * tokens, self.decoder_bytes * tokens)
        for name, (operations, read) in (("encoder", encoder), ("decoder", decoder)):
            if operations and (taken := seconds[name]):
                yield name, GraphRate(taken, operations / taken / 1e9, operations / read)


class _Graphs:
    """Opens a model's graphs on one device, and knows where they landed and how often they ran."""

    def __init__(self, open_session: Opener) -> None:
        self._opener = open_session
        self._device = open_session.device
        self.formats, self.static = open_session.formats, open_session.static
        self.compiles = open_session.compiles
        self.concurrent = False  # they are counted
        self._open: list[tuple[str, _Counted]] = []

    def __call__(self, path: Path, parallel: bool) -> Session:
        session = _Counted(self._opener(path, parallel))
        self._open.append((path.name.partition(".")[0], session))
        return session

    def reset(self) -> None:
        for _, session in self._open:
            session.runs, session.seconds = 0, 0.0

    def runs(self, graph: str) -> int:
        """Runs of the graphs in files of this name since the last reset."""
        return sum(session.runs for name, session in self._open if name == graph)

    def seconds(self, graph: str) -> float:
        """In those runs."""
        return sum(session.seconds for name, session in self._open if name == graph)

    def placed(self) -> dict[str, Any]:
        """Where the operators are. Raises ProviderError when none is where it was asked for."""
        counts: dict[str, int] = {}
        for _, session in self._open:
            for device, count in session.placement.items():
                counts[device] = counts.get(device, 0) + count
        left, total = counts.get("cpu", 0), sum(counts.values())
        if self._device.kind == "cpu" or not left:
            return {"placement": counts}
        name = self._device.name
        if left == total:
            raise ProviderError(f"all operators run on the CPU, none on {name}", code="on_cpu")
        share = f"{left} of {total} operators ({left / total:.0%}) run on the CPU, not on {name}"
        return {"placement": counts, "code": "partly_on_cpu", "reason": share}


class _Counted(Session):
    """A session that counts its runs, and the seconds in them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.device = session.device
        self.inputs, self.outputs = session.inputs, session.outputs
        self.placement = session.placement
        self.runs = 0
        self.seconds = 0.0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """While it runs once."""
        started = time.perf_counter()
        yield
        self.runs += 1
        self.seconds += time.perf_counter() - started

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        with self.counted():
            return self._session.run(inputs, outputs)

    def arrays(self, shapes: Mapping[str, Shape]) -> Mapping[str, np.ndarray]:
        return self._session.arrays(shapes)

    def loop(self, carried: Mapping[str, str], axis: int) -> Loop:
        return _CountedLoop(self, self._session.loop(carried, axis))

    def places(self, carried: Mapping[str, str], axis: int) -> Places:
        return _CountedPlaces(self, self._session.places(carried, axis))

    def close(self) -> None:
        self._session.close()


class _CountedLoop(Loop):
    """A loop whose runs count for its session."""

    def __init__(self, session: _Counted, loop: Loop) -> None:
        self._counted = session
        self._loop = loop

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        with self._counted.counted():
            return self._loop.run(inputs, outputs)

    def shorten(self, length: int) -> None:
        self._loop.shorten(length)


class _CountedPlaces(Places):
    """A cache whose runs count for its session."""

    def __init__(self, session: _Counted, places: Places) -> None:
        self._counted = session
        self._places = places

    def arrays(self, shapes: Mapping[str, Shape]) -> Mapping[str, np.ndarray]:
        return self._places.arrays(shapes)

    def run(
        self, inputs: Mapping[str, Any], outputs: Sequence[str], first: int, count: int
    ) -> list[Value]:
        with self._counted.counted():
            return self._places.run(inputs, outputs, first, count)

    def take(self, other: Places, first: int, last: int) -> None:
        self._places.take(other, first, last)

    def held(self, name: str) -> np.ndarray:
        return self._places.held(name)


def _peak_memory() -> int | None:
    """Of this process and its children."""
    sizes = [_peak_memory_of(pid) for pid in family(os.getpid())]
    return sum(size or 0 for size in sizes) or None


def _peak_memory_of(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="edged-prove")
    parser.add_argument("--rung", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--options", default="{}")
    arguments = parser.parse_args()
    out = answer_only()
    rung = msgspec.json.decode(arguments.rung, type=Rung)
    options = msgspec.json.decode(arguments.options, type=WorkerOptions)
    keep_to(options.processors)
    verdict = prove(rung, arguments.model, options)
    with open(out, "wb") as stream:  # noqa: PTH123  a descriptor
        stream.write(msgspec.json.encode(verdict))


# -- for the one who asks -------------------------------------------------------------------------


async def prove_apart(
    rung: Rung,
    folder: Path,
    options: WorkerOptions,
    *,
    deadline: float = DEADLINE_SECONDS,
    stall: float = STALL_SECONDS,
) -> Verdict:
    """Try a rung in a process of its own. Whatever happens to it becomes its verdict."""
    python = interpreter(rung.provider, options.extra)
    process = await asyncio.create_subprocess_exec(
        python.python,
        "-m",
        "edged.engine.prove",
        f"--rung={msgspec.json.encode(rung).decode()}",
        f"--model={folder}",
        f"--options={msgspec.json.encode(options).decode()}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=worker_environment(python.environment),
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    out, errors = _Tail(process.stdout), _Tail(process.stderr)
    try:
        hung = await _watch(process, deadline, stall)
    finally:
        await kill_group(process)
    answer, said = await out.read(), await errors.read()
    if hung:
        return _refused(rung, "hung", hung, said)
    if process.returncode:
        return _refused(rung, "crashed", _how_it_ended(process.returncode), said)
    try:
        return msgspec.json.decode(answer.strip().rpartition("\n")[2], type=Verdict)
    except msgspec.DecodeError:
        return _refused(rung, "garbage", "it left without a verdict", answer or said)


def _refused(rung: Rung, code: str, what: str, said: str) -> Verdict:
    """A verdict in place of the one that the process did not give."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = f"{what}: {lines[-1][:500]}" if lines else what
    return Verdict(rung=rung, ok=False, code=code, reason=reason, time=time.time())


def _how_it_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "it was killed by SIGKILL, perhaps because there was no memory left"
    if code < 0:
        return f"it was ended by {signal_name(-code)}"
    return f"it left with exit code {code}"


async def _watch(process: asyncio.subprocess.Process, deadline: float, stall: float) -> str | None:
    """Wait for its end; why it was not waited for any longer, or None."""
    started, stillness = time.monotonic(), Stillness(process.pid)
    while process.returncode is None:
        await asyncio.sleep(POLL_SECONDS)
        if stillness.seconds() > stall:
            return f"it did nothing for {stall:.0f} s"
        if time.monotonic() - started > deadline:
            return f"it was not done after {deadline:.0f} s"
    return None


class _Tail:
    """Reads a pipe to its end and keeps the last of it."""

    def __init__(self, pipe: asyncio.StreamReader) -> None:
        self._pipe = pipe
        self._kept = b""
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while data := await self._pipe.read(LAST_BYTES):
            self._kept = (self._kept + data)[-LAST_BYTES:]

    async def read(self) -> str:
        """All that came; a grandchild that got away may still hold the pipe open."""
        await asyncio.wait({self._task}, timeout=1.0)
        self._task.cancel()
        return self._kept.decode("utf-8", "replace")


if __name__ == "__main__":
    main()
