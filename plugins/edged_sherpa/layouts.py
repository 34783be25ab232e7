"""Which model lies in a folder: by its files' names, and what the first graph says of itself.

The files are called as the recipes of sherpa-onnx call them, `encoder-epoch-99-avg-1.int8.onnx` or
`tiny.en-encoder.onnx`; where several kinds look alike, the graph's metadata tell. That a model
streams is told by metadata that only streaming models have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edged.errors import ModelError
from edged.recognizer import Description
from edged_sherpa.kinds import TAIL_PADDING

ROLES = {
    "uncached": "uncached_decoder",
    "cached": "cached_decoder",
    "preprocess": "preprocessor",
    "joiner": "joiner",
    "encoder": "encoder",
    "encode": "encoder",
    "decoder": "decoder",
}
"""Part of a file's name to what it is, the first that fits; any other is the model itself"""
GRAPHS = {".onnx", ".ort"}
PRECISIONS = ("int8", "fp16")
"""Said between dots; the others are float32"""
STREAMING = {"decode_chunk_len", "chunk_shift", "left_chunks"}
"""Metadata that only streaming models have"""
CHUNKS = ("T", "window_size", "frame_length_ms")
"""Metadata that say how much a streaming model hears at a time: two in frames of 10 ms, the last in
milliseconds"""
BY_TYPE = {
    "zipformer2": "online-zipformer2-ctc",
    "zipformer2_ctc": "zipformer-ctc",
    "EncDecCTCModelBPE": "nemo-ctc",
    "EncDecCTCModel": "nemo-ctc",
    "EncDecHybridRNNTCTCBPEModel": "nemo-ctc",
    "wenet_ctc": "wenet-ctc",
    "paraformer": "paraformer",
    "sense_voice_ctc": "sense-voice",
    "telespeech_ctc": "telespeech-ctc",
    "t-one": "online-t-one-ctc",
    "dolphin": "dolphin-ctc",
    "medasr_ctc": "medasr-ctc",
    "omnilingual-asr": "omnilingual-asr-ctc",
    "tdnn": "tdnn-ctc",
}
"""Kinds of one graph, by `model_type` of the metadata"""
PAIRS = {
    "whisper": "whisper",
    "EncDecMultiTaskModel": "nemo-canary",
    "fire-red-asr": "fire-red-asr",
    "paraformer": "online-paraformer",
}
"""Kinds of an encoder and a decoder, by the beginning of `model_type`"""
Graphs = dict[str, dict[str, Path]]
"""By precision and role"""


def describe(folder: Path) -> Description | None:
    """What sherpa-onnx makes of a folder; None where it is no model of its. Raises ModelError."""
    tokens = sorted(folder.glob("*tokens.txt"))
    graphs = _graphs(folder)
    if not tokens or not graphs:
        return None
    parts = _whole(graphs)
    first = parts[min(parts)]  # any: the metadata are the same
    decoding = _decoding(first)
    if (folder / "bpe.vocab").is_file() and "joiner" in first:
        decoding |= {"modeling_unit": "bpe", "bpe_vocab": "bpe.vocab"}
    renamed = {"model": "paraformer"} if decoding["kind"] == "paraformer" else {}
    files = {
        f"{precision}/model.sherpa/{name}": path
        for precision, roles in parts.items()
        for name, path in _placed(folder, roles, tokens[0], renamed)
    }
    if "bpe_vocab" in decoding:
        files["bpe.vocab"] = folder / "bpe.vocab"
    return Description(files, decoding, sorted(folder.glob("test_wavs/*.wav")))


def _graphs(folder: Path) -> Graphs:
    """Where two files have one role, the first by name is taken."""
    found: Graphs = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in GRAPHS:
            words = path.name.split(".")
            precision = next((known for known in PRECISIONS if known in words), "fp32")
            found.setdefault(precision, {}).setdefault(_role(path), path)
    return found


def _role(path: Path) -> str:
    return next((role for word, role in ROLES.items() if word in path.name.lower()), "model")


def _whole(graphs: Graphs) -> Graphs:
    """The precisions in which there is more than some of the roles; what a quantised model lacks is
    its float32's, as only the large graphs gain by it."""
    roles = {role for known in graphs.values() for role in known}
    filled = {
        precision: {role: known.get(role) or graphs.get("fp32", {}).get(role) for role in roles}
        for precision, known in graphs.items()
    }
    return {
        precision: {role: path for role, path in known.items() if path}
        for precision, known in filled.items()
        if all(known.values())
    } or graphs


def _decoding(graphs: Mapping[str, Path]) -> dict[str, Any]:
    """[decoding] of model.toml. Raises ModelError where nothing tells the kind."""
    roles = set(graphs)
    if "uncached_decoder" in roles:
        return {"kind": "moonshine"}
    if roles == {"encoder", "decoder"} and graphs["encoder"].suffix == ".ort":
        return {"kind": "moonshine-v2"}
    metadata = _metadata(graphs.get("encoder") or graphs.get("model"))
    told, streams = metadata.get("model_type", ""), bool(STREAMING & set(metadata))
    if "joiner" in roles:
        return _transducer(told, streams, metadata)
    if "decoder" in roles:
        kind = next((kind for start, kind in PAIRS.items() if told.startswith(start)), None)
    else:
        kind = BY_TYPE.get(told)
    if kind is None:
        raise ModelError(
            f"Nothing in {', '.join(path.name for path in graphs.values())} tells the kind of "
            f"model (model_type is {told!r}). Write a model.toml: see docs/models.md",
            code="model_unknown",
        )
    if streams and not kind.startswith("online-"):
        kind = f"online-{kind}"
    return {"kind": kind, **_padding(kind, metadata)}


def _transducer(told: str, streams: bool, metadata: Mapping[str, str]) -> dict[str, Any]:
    if streams:
        return {"kind": "online-transducer", **_padding("online-transducer", metadata)}
    options = {"model_type": "nemo_transducer"} if told.startswith("EncDec") else {}
    return {"kind": "transducer", **options}


def _padding(kind: str, metadata: Mapping[str, str]) -> dict[str, float]:
    """As much silence as a streaming model hears at a time, to push the last word through it."""
    if not kind.startswith("online-"):
        return {}
    chunks = [float(metadata[name]) for name in CHUNKS if name in metadata]
    seconds = chunks[0] / (1000 if "frame_length_ms" in metadata else 100) if chunks else 0.0
    return {"tail_padding": round(max(TAIL_PADDING, 2 * seconds), 2)}


def _metadata(path: Path | None) -> dict[str, str]:
    """What a graph says of itself; its weights are not read where they lie beside it."""
    import onnx

    if path is None or path.suffix != ".onnx":
        return {}
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ModelError(f"{path} is no ONNX graph ({error})", path=path) from error
    return {entry.key: entry.value for entry in model.metadata_props}


def _placed(
    folder: Path, graphs: Mapping[str, Path], tokens: Path, renamed: Mapping[str, str]
) -> Iterable[tuple[str, Path]]:
    """Names in a model of edged's, and the files: called as the factory calls them."""
    yield "tokens.txt", tokens
    for role, path in graphs.items():
        yield renamed.get(role, role) + path.suffix, path
        # Weights beside a graph are named in it, and keep their names.
        yield from ((beside.name, beside) for beside in _beside(folder, path))


def _beside(folder: Path, graph: Path) -> list[Path]:
    names = (f"{graph.name}.data", f"{graph.name}_data", f"{graph.stem}.weights")
    return [folder / name for name in names if (folder / name).is_file()]
