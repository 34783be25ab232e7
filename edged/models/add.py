"""`edged models add`: a model from elsewhere is looked at and tried in a process that may be lost.

    python -m edged.models.add FOLDER [--said JSON]    JSON on stdout

Runtimes that cannot load a file may end the process instead of raising.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from edged.errors import EdgedError, ModelError
from edged.models.store import Model
from edged.parent import answer_only


class _Answer(msgspec.Struct):
    """What came of it."""

    name: str = ""
    error: str = ""
    code: str = ""


def add(folder: Path, said: Mapping[str, str] = MappingProxyType({})) -> Model:
    """Take a model into the store. Raises ModelError.

    `said` goes over what it says of itself: name, language, licence, source.
    """
    from edged.models.inventory import store

    command = [sys.executable, "-m", "edged.models.add", str(folder)]
    done = subprocess.run(
        [*command, f"--said={msgspec.json.encode(dict(said)).decode()}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answer)
    except msgspec.DecodeError as error:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = lines[-1].strip() if lines else f"exit code {done.returncode}"
        raise ModelError(f"{folder} cannot be loaded; its runtime gave up: {why}") from error
    if answer.error:
        raise ModelError(answer.error, code=answer.code)
    return store().get(answer.name)


def _add(folder: Path, said: Mapping[str, str]) -> Model:
    from edged.models.adopt import adopt, find
    from edged.models.inventory import opener, store
    from edged.models.sources import find_moonshine
    from edged.plugins import Plugins

    moonshine = find_moonshine(folder, said)
    if moonshine:
        from edged.models.build import build_model

        parts = [(precision, "onnx") for precision in ("fp32", "fp16", "int8")]
        return build_model(moonshine, store().folder / moonshine.source.name, opener(), parts)
    recognizers = [found for _, found in Plugins.discover().supplied("edged_recognizers")]
    foreign = find(folder, recognizers, said)
    return adopt(foreign, store().folder, opener())


def main() -> None:
    parser = argparse.ArgumentParser(prog="edged-add")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--said", default="{}")
    arguments = parser.parse_args()
    out = answer_only()
    try:
        said = msgspec.json.decode(arguments.said, type=dict[str, str])
        answer = _Answer(_add(arguments.folder, said).name)
    except EdgedError as error:
        answer = _Answer(error=error.message, code=error.code)
    with open(out, "wb") as stream:  # noqa: PTH123  a descriptor
        stream.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
