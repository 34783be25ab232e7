"""Fetches files over HTTP, in pieces if it must be, and unpacks archives of strangers.

What has come lies beside its place as `.partial`, and a next try goes on from there. A file is in
its place only when it is whole.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from edged import __version__
from edged.errors import ModelError
from edged.models.store import written

TIMEOUT_SECONDS = 30.0
"""Without a byte"""
ATTEMPTS = 5
"""In a row that bring nothing new"""
PAUSE_SECONDS = 1.0
"""Before a next attempt, doubled each time"""
PIECE = 1 << 20
LARGEST_ARCHIVE = 32 << 30
"""Bytes that an archive may unpack to"""
MOST_FILES = 10_000
LOOPBACK = {"127.0.0.1", "::1", "localhost"}

Progress = Callable[[str, float], None]
"""Told what comes and the share that is there, 0 to 1"""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a file before it comes."""

    size: int | None = None
    """Bytes"""
    sha256: str = ""
    git_sha1: str = ""
    """As git names a blob; for small files that is all a hub tells"""


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection to where nobody proves who they are."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(url: str) -> None:
    """Raises ModelError for what is neither https nor on this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.scheme, parts.hostname) not in {
        ("http", host) for host in LOOPBACK
    }:
        raise ModelError(f"{url} is not fetched: it does not begin with https://", code="address")


def read(url: str) -> bytes:
    """A small answer, whole. Raises ModelError."""
    with _opened(url, {}) as response:
        answer: bytes = response.read(1 << 26)
    return answer


def download(
    url: str, target: Path, expected: Expected, progress: Progress = lambda _what, _share: None
) -> str:
    """Fetch a file to its place, if it is not there; returns its SHA-256. Raises ModelError."""
    if expected.sha256 and target.exists() and _sha256(target) == expected.sha256:
        return expected.sha256
    partial = target.with_name(f"{target.name}.partial")
    with written(target):
        partial.parent.mkdir(parents=True, exist_ok=True)
        _fetch_all(url, partial, expected, progress)
        digest = _checked(url, partial, expected)
        partial.replace(target)
        _mark(partial).unlink(missing_ok=True)
        return digest


def _fetch_all(url: str, partial: Path, expected: Expected, progress: Progress) -> None:
    attempts, pause, there = ATTEMPTS, PAUSE_SECONDS, _size(partial)
    while not _fetch(url, partial, expected, progress):
        came, there = _size(partial) > there, _size(partial)
        attempts, pause = (ATTEMPTS, PAUSE_SECONDS) if came else (attempts - 1, 2 * pause)
        if not attempts:
            raise ModelError(
                f"{url} broke off again and again; {there} bytes are kept in {partial}. "
                "Run the same command again to go on",
                code="download_broken",
            )
        time.sleep(pause)


def _fetch(url: str, partial: Path, expected: Expected, progress: Progress) -> bool:
    """Go on with a file as far as it comes; whether it is whole."""
    there = _size(partial)
    if expected.size is not None and there == expected.size:
        return True
    headers = {}
    if there and _mark(partial).exists():
        headers = {"Range": f"bytes={there}-", "If-Range": _mark(partial).read_text()}
    with _opened(url, headers) as response:
        there = there if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        total = there + int(response.headers.get("Content-Length") or 0)
        _make_room(url, partial, total - there)
        _mark(partial).write_text(response.headers.get("ETag") or "")
        with partial.open("r+b" if there else "wb") as file:
            file.seek(there)
            for data in _pieces(response):
                there += file.write(data)
                progress(partial.stem, there / max(total, there))
    return there >= total


def _pieces(response: Any) -> Iterator[bytes]:
    """What comes until it is whole, or breaks off."""
    with suppress(http.client.HTTPException, OSError):
        while data := response.read(PIECE):
            yield data


def _mark(partial: Path) -> Path:
    """Beside a part, by what the server tells that it is still part of the same."""
    return partial.with_suffix(".etag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _make_room(url: str, partial: Path, wanted: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if wanted > free:
        raise ModelError(
            f"{url} wants {wanted >> 20} MB, {partial.parent} has {free >> 20} MB. "
            "Free it, or choose another place with EDGED_CACHE_DIR",
            code="no_space",
        )


@contextmanager
def _opened(url: str, headers: dict[str, str]) -> Iterator[Any]:
    """The answer of a server. Raises ModelError where it says no or cannot be reached."""
    check_address(url)
    opener = urllib.request.build_opener(_SafeRedirect)
    request = urllib.request.Request(  # noqa: S310  the address was checked
        url,
        headers={"User-Agent": f"edged/{__version__}", "Accept-Encoding": "identity", **headers},
    )
    try:
        response = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            raise ModelError(_refusal(url, error.code), code="download_refused") from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ModelError(
            f"{urlsplit(url).hostname} cannot be reached ({reason}). Everything else "
            "works offline: copy the model here from another machine, and run: "
            "edged models add FOLDER",
            code="offline",
        ) from error
    with response:
        yield response


def _refusal(url: str, status: int) -> str:
    why = {
        401: "it wants an account that has accepted its terms; fetch it by hand",
        403: "it wants an account that has accepted its terms; fetch it by hand",
        404: "there is no such file",
        416: "it is shorter than what came of it before; remove the .partial file",
    }.get(status, "try again later")
    return f"{url} was refused with {status}: {why}"


def _checked(url: str, partial: Path, expected: Expected) -> str:
    """The file's SHA-256. Raises ModelError, and removes it, where it is not what was expected."""
    digest = _sha256(partial)
    wrong = expected.sha256 and digest != expected.sha256
    if wrong or (expected.git_sha1 and _git_sha1(partial) != expected.git_sha1):
        partial.unlink()
        _mark(partial).unlink(missing_ok=True)
        raise ModelError(
            f"{url} came with another checksum than it should have (SHA-256 {digest}); "
            "it is removed. Run the same command again",
            code="checksum",
        )
    return digest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    """As `git hash-object` computes it."""
    digest = hashlib.sha1(f"blob {_size(path)}\0".encode(), usedforsecurity=False)
    digest.update(path.read_bytes())
    return digest.hexdigest()


# -- archives -------------------------------------------------------------------------------------


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar archive below `folder`, and nowhere else; the folder of its model.

    Only plain files: links, which may lead elsewhere, are left out. Raises ModelError.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in _plain_files(archive, tar):
                target = folder / PurePosixPath(member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, PIECE)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ModelError(f"{archive} cannot be unpacked: {error}", path=archive) from error
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _plain_files(archive: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    size = 0
    for number, member in enumerate(tar):
        path = PurePosixPath(member.name)
        size += member.size
        if path.is_absolute() or ".." in path.parts or os.sep in path.name:
            raise ModelError(f"{archive} wants to write outside its folder: {member.name}")
        if size > LARGEST_ARCHIVE or number > MOST_FILES:
            raise ModelError(f"{archive} unpacks to more than any model: {size} bytes")
        if member.isreg():
            yield member
