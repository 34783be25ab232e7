"""`edged models pull`: a model by its name in a small catalogue, from Hugging Face, or by address.

Nothing else in edged fetches anything, and this only when it is called.
"""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import tomli_w

from edged import paths
from edged.errors import ModelError
from edged.files import write_whole
from edged.models.add import add
from edged.models.download import Expected, Progress, download, read, unpack
from edged.models.store import Model

CATALOGUE = Path(__file__).parent / "catalogue.toml"
HUGGING_FACE = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
ARCHIVES = (".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tgz")
WANTED = {".onnx", ".ort", ".txt", ".data", ".weights", ".onnx_data", ".vocab", ".toml"}
"""Endings of files in a repository that belong to a model here"""
WANTED_NAMES = {"tokenizer.bin"}
FIRST_SEEN = "pulled.toml"
"""In the cache directory: by address, the SHA-256 with which it came the first time"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalogue."""

    name: str
    url: str
    language: str
    about: str
    sha256: str = ""
    """Empty where nobody has published it"""
    licence: str = "unknown"


@dataclass(frozen=True, slots=True)
class _Pulled:
    """A model's files, here."""

    folder: Path
    said: Mapping[str, str]
    """What is known of it beside them"""


def catalogue() -> dict[str, Entry]:
    """By name."""
    entries = tomllib.loads(CATALOGUE.read_text("utf-8"))
    return {name: Entry(name, **entry) for name, entry in entries.items()}


def pull(wanted: str, name: str = "", progress: Progress = lambda _what, _share: None) -> Model:
    """Fetch a model and take it into the store. Raises ModelError."""
    folder = paths.cache_directory() / "downloads" / re.sub(r"[^\w.-]+", "_", wanted)
    pulled = _pull(wanted, folder, progress)
    progress("trying it", 1.0)
    model = add(pulled.folder, {**pulled.said, **({"name": name} if name else {})})
    shutil.rmtree(folder, ignore_errors=True)
    return model


def _pull(wanted: str, folder: Path, progress: Progress) -> _Pulled:
    if match := HUGGING_FACE.fullmatch(wanted):
        return _from_hugging_face(
            match["repository"], match["revision"] or "main", folder, progress
        )
    if "://" in wanted:
        name = PurePosixPath(urlsplit(wanted).path).name
        return _from_archive(Entry(_stem(name), wanted, "", ""), folder, progress)
    known = catalogue()
    if wanted not in known:
        raise ModelError(
            f"{wanted} is not in the catalogue (edged models pull lists it); "
            "else name hf:OWNER/REPOSITORY, or the https:// address of a tar archive",
            code="model_unknown",
        )
    return _from_archive(known[wanted], folder, progress)


# -- archives -------------------------------------------------------------------------------------


def _from_archive(entry: Entry, folder: Path, progress: Progress) -> _Pulled:
    if not entry.url.endswith(ARCHIVES):
        raise ModelError(f"{entry.url} is no tar archive ({', '.join(ARCHIVES)})")
    archive = folder / PurePosixPath(urlsplit(entry.url).path).name
    expected = Expected(sha256=entry.sha256 or _first_seen().get(entry.url, ""))
    digest = download(entry.url, archive, expected, progress)
    _remember(entry.url, digest)
    unpacked = folder / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    progress(f"unpacking {archive.name}", 1.0)
    said = {
        "name": entry.name,
        "language": entry.language,
        "licence": entry.licence,
        "source": f"{entry.url} sha256:{digest}",
    }
    return _Pulled(unpack(archive, unpacked), said)


def _stem(name: str) -> str:
    return next((name.removesuffix(end) for end in ARCHIVES if name.endswith(end)), name)


def _first_seen() -> dict[str, str]:
    try:
        return tomllib.loads((paths.cache_directory() / FIRST_SEEN).read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _remember(url: str, digest: str) -> None:
    """Trusted as it came the first time; another file under the same address is refused then."""
    seen = {**_first_seen(), url: digest}
    write_whole(paths.cache_directory() / FIRST_SEEN, tomli_w.dumps(seen).encode())


# -- Hugging Face ---------------------------------------------------------------------------------


class _Large(msgspec.Struct):
    """What git holds only a reference to."""

    sha256: str


class _File(msgspec.Struct):
    rfilename: str
    size: int | None = None
    blobId: str = ""  # noqa: N815  the hub's name
    lfs: _Large | None = None


class _Repository(msgspec.Struct):
    """The hub's answer about a repository."""

    sha: str
    """The commit that the revision is now"""
    siblings: list[_File] = []
    cardData: dict[str, Any] | None = None  # noqa: N815


def _from_hugging_face(repository: str, revision: str, folder: Path, progress: Progress) -> _Pulled:
    """A repository's files, as one commit has them."""
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{hub}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
    try:
        found = msgspec.json.decode(read(url), type=_Repository)
    except msgspec.DecodeError as error:
        raise ModelError(f"{url} gave an answer that is not understood: {error}") from error
    files = list(_wanted(found.siblings))
    if not files:
        raise ModelError(
            f"hf:{repository} holds no file of a model that edged can run "
            f"({', '.join(sorted(WANTED))})",
            code="model_unknown",
        )
    target = folder / found.sha
    for file in files:
        place = target / file.rfilename
        if not place.exists():
            address = f"{hub}/{repository}/resolve/{found.sha}/{quote(file.rfilename)}"
            download(address, place, _expected(file), progress)
    card = found.cardData or {}
    language = card.get("language")
    said = {
        "name": repository.partition("/")[2],
        "language": language if isinstance(language, str) else "",
        "licence": str(card.get("license", "")),
        "source": f"hf:{repository}@{found.sha}",
    }
    return _Pulled(target, said)


def _wanted(files: list[_File]) -> Iterator[_File]:
    """Those at the top, and the recordings to try it with."""
    for file in files:
        path = PurePosixPath(file.rfilename)
        if path.is_absolute() or ".." in path.parts:
            continue
        is_model = path.suffix in WANTED or path.name in WANTED_NAMES
        if (len(path.parts) == 1 and is_model) or path.match("test_wavs/*.wav"):
            yield file


def _expected(file: _File) -> Expected:
    if file.lfs:
        return Expected(file.size, sha256=file.lfs.sha256)
    return Expected(file.size, git_sha1=file.blobId)
