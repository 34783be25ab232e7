"""The kinds of models that sherpa-onnx loads, as its own factories tell them.

Each `from_KIND` of its two recogniser classes is a kind: `from_whisper` of the offline one is
`whisper`, `from_transducer` of the online one `online-transducer`. What a factory wants without a
default are the model's files, the rest are options, but for those that edged decides itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edged.errors import ModelError, ProviderError

OURS = {"num_threads", "provider", "device", "debug"}
"""The rung says these"""
OTHER_DEVICES = ("trt_", "cudnn_")
"""Options of devices that its packages on the registries do not drive"""
OPTIONAL_FILES = {
    *("hotwords_file", "bpe_vocab", "lm", "lodr_fst", "ctc_graph"),
    *("rule_fsts", "rule_fars", "hr_dict_dir", "hr_lexicon", "hr_rule_fsts"),
}
"""Options that name files, several of them between commas; relative to the model's folder"""
FILE_SUFFIXES = (".onnx", ".ort", ".txt", "")
"""Of the file of a parameter; none is a folder's"""
TAIL_PADDING = 0.66
"""Seconds of silence after the last sample, which push it through a streaming model; as in
sherpa-onnx's examples"""
EXTRAS = {"kind": str, "hotwords": list, "tail_padding": float}
"""What edged reads of [decoding] itself"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One factory."""

    name: str
    streaming: bool
    make: Callable[..., Any]
    files: tuple[str, ...]
    """Parameters for which the model has a file each"""
    options: Mapping[str, type]
    """Their types by name"""

    @property
    def takes_hotwords(self) -> bool:
        """For each stream, without a file"""
        return "hotwords_file" in self.options


def package() -> Any:
    """The package. Raises ProviderError."""
    try:
        import sherpa_onnx
    except (ImportError, OSError) as error:
        raise ProviderError(
            f"sherpa-onnx cannot be imported ({error}). Run: pip install 'edged[sherpa]'"
        ) from error
    return sherpa_onnx


@cache
def kinds() -> dict[str, Kind]:
    """All, by name. Raises ProviderError."""
    sherpa = package()
    streaming = _of(sherpa.OnlineRecognizer, "online-")
    return {kind.name: kind for kind in (*streaming, *_of(sherpa.OfflineRecognizer, ""))}


def _of(factories: type, prefix: str) -> Iterator[Kind]:
    for name, make in inspect.getmembers(factories, inspect.ismethod):
        if name.startswith("from_"):
            wanted = inspect.signature(make, eval_str=True).parameters.values()
            files = tuple(p.name for p in wanted if p.default is p.empty)
            options = {
                p.name: p.annotation
                for p in wanted
                if p.default is not p.empty
                and p.name not in OURS
                and not p.name.startswith(OTHER_DEVICES)
            }
            plain = name.removeprefix("from_").replace("_", "-")
            yield Kind(prefix + plain, bool(prefix), make, files, options)


def kind_of(decoding: Mapping[str, Any]) -> Kind:
    """The one that [decoding] names. Raises ModelError naming what there is."""
    name = decoding.get("kind")
    if name not in kinds():
        raise ModelError(
            f"[decoding] kind = {name!r} is none of sherpa-onnx {package().__version__}: "
            f"{', '.join(sorted(kinds()))}",
            code="model_kind",
        )
    return kinds()[str(name)]


def options_of(kind: Kind, decoding: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a factory is told of [decoding]; files lie below `folder`. Raises ModelError."""
    _check(kind, decoding)
    return {
        name: _located(str(value), folder) if name in OPTIONAL_FILES else kind.options[name](value)
        for name, value in decoding.items()
        if name not in EXTRAS
    }


def _check(kind: Kind, decoding: Mapping[str, Any]) -> None:
    known = {**kind.options, **EXTRAS}
    for name, value in decoding.items():
        if name not in known:
            raise ModelError(
                f"[decoding] {name} is no option of {kind.name}; known: {', '.join(sorted(known))}",
                code="model_option",
            )
        if not _is_a(value, known[name]):
            raise ModelError(
                f"[decoding] {name} = {value!r} is no {known[name].__name__}", code="model_option"
            )
    if decoding.get("hotwords"):
        _check_hotwords(kind, decoding)


def _is_a(value: Any, wanted: type) -> bool:
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is wanted


def _check_hotwords(kind: Kind, decoding: Mapping[str, Any]) -> None:
    """sherpa-onnx itself ignores in silence what it cannot use."""
    if not kind.takes_hotwords:
        raise ModelError(f"[decoding] hotwords: {kind.name} takes none", code="model_option")
    if decoding.get("decoding_method") != "modified_beam_search":
        raise ModelError(
            '[decoding] hotwords are heard only with decoding_method = "modified_beam_search"',
            code="model_option",
        )


def _located(names: str, folder: Path) -> str:
    """Files between commas, each in its place. Raises ModelError for one that is not there."""
    paths = [folder / name.strip() for name in names.split(",") if name.strip()]
    for path in paths:
        if not path.exists():
            raise ModelError(f"{path} is not there; [decoding] names it", path=path)
    return ",".join(map(str, paths))


def files_of(kind: Kind, folder: Path) -> dict[str, str]:
    """The model's files by parameter. Raises ModelError."""
    return {name: str(_file(name, kind, folder)) for name in kind.files}


def _file(name: str, kind: Kind, folder: Path) -> Path:
    for suffix in FILE_SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.exists():
            return path
    raise ModelError(
        f"{folder} holds no {name}.onnx, .ort or .txt; {kind.name} wants {', '.join(kind.files)}",
        path=folder,
        code="model_missing",
    )
