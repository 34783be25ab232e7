"""Models from the network: a hub on this machine that breaks off, lies, and is not there."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from edged.errors import ModelError
from edged.models import download as downloads
from edged.models import pull as pulling
from edged.models.check import read_clip
from edged.models.download import Expected, download, unpack
from edged.models.inventory import store
from tests.models.hub import COMMIT, Hub, serve

SPEECH = bytes(np.random.default_rng(5).integers(0, 256, 3_000_000, np.uint8))
SHA256 = hashlib.sha256(SPEECH).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGED_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.01)
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "speech.bin").write_bytes(SPEECH)
    with serve(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "here" / "speech.bin"


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


# -- files ----------------------------------------------------------------------------------------


def test_a_file_comes_whole_and_its_progress_is_told(hub: Hub, target: Path) -> None:
    told: list[float] = []
    digest = download(
        hub.url("speech.bin"),
        target,
        Expected(sha256=SHA256),
        lambda _what, share: told.append(share),
    )
    assert (digest, target.read_bytes()) == (SHA256, SPEECH)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert leftovers(target) == []


def test_what_breaks_off_goes_on_where_it_stopped(hub: Hub, target: Path) -> None:
    hub.breaks_after = [1_000_000, 500_000]
    download(hub.url("speech.bin"), target, Expected(sha256=SHA256))
    assert target.read_bytes() == SPEECH
    starts = [int(wanted[6:-1]) for _, wanted in hub.asked if wanted]
    assert len(starts) == 2
    assert starts[0] > 900_000
    assert starts[1] > starts[0] + 400_000


def test_what_was_given_up_goes_on_the_next_time(hub: Hub, target: Path) -> None:
    hub.breaks_after = [700_000, *[0] * downloads.ATTEMPTS]
    with pytest.raises(ModelError, match="Run the same command again to go on") as raised:
        download(hub.url("speech.bin"), target, Expected())
    assert raised.value.code == "download_broken"
    assert not target.exists()
    kept = (target.parent / "speech.bin.partial").stat().st_size
    assert kept > 600_000
    download(hub.url("speech.bin"), target, Expected())
    assert hub.asked[-1][1] == f"bytes={kept}-"
    assert target.read_bytes() == SPEECH


def test_another_file_under_the_same_address_is_fetched_anew(hub: Hub, target: Path) -> None:
    hub.breaks_after = [700_000, *[0] * downloads.ATTEMPTS]
    with pytest.raises(ModelError):
        download(hub.url("speech.bin"), target, Expected())
    (hub.folder / "speech.bin").write_bytes(SPEECH[::-1])
    download(hub.url("speech.bin"), target, Expected())
    assert target.read_bytes() == SPEECH[::-1]


def test_a_server_without_ranges_sends_all_again(hub: Hub, target: Path) -> None:
    hub.ranges, hub.breaks_after = False, [1_000_000]
    download(hub.url("speech.bin"), target, Expected(sha256=SHA256))
    assert target.read_bytes() == SPEECH


@pytest.mark.parametrize("expected", [Expected(sha256="0" * 64), Expected(git_sha1="0" * 40)])
def test_a_wrong_checksum_is_refused_and_removed(
    hub: Hub, target: Path, expected: Expected
) -> None:
    with pytest.raises(ModelError, match=SHA256) as raised:
        download(hub.url("speech.bin"), target, expected)
    assert raised.value.code == "checksum"
    assert list(target.parent.iterdir()) == []


def test_what_is_not_there_is_one_line(hub: Hub, target: Path) -> None:
    with pytest.raises(ModelError, match="refused with 404: there is no such file") as raised:
        download(hub.url("nothing.bin"), target, Expected())
    assert raised.value.code == "download_refused"


def test_without_a_network_it_says_what_to_do(free_port: int, target: Path) -> None:
    with pytest.raises(ModelError, match="edged models add FOLDER") as raised:
        download(f"http://127.0.0.1:{free_port}/x.bin", target, Expected())
    assert raised.value.code == "offline"
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    "url", ["http://example.org/a.tar", "file:///etc/passwd", "ftp://example.org/a.tar"]
)
def test_only_https_is_fetched_and_followed(hub: Hub, target: Path, url: str) -> None:
    hub.redirects["/moved"] = url
    for address in (url, hub.url("moved")):
        with pytest.raises(ModelError, match=r"does not begin with https|refused with 302"):
            download(address, target, Expected())


# -- archives -------------------------------------------------------------------------------------


def archive(path: Path, files: dict[str, bytes], *links: tuple[str, str]) -> Path:
    with tarfile.open(path, "w:bz2") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, to in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, to
            tar.addfile(member)
    return path


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "model/../../evil"])
def test_an_archive_does_not_write_elsewhere(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "a.tar.bz2", {"model/tokens.txt": b"a 0", name: b"x"})
    with pytest.raises(ModelError, match="outside its folder"):
        unpack(path, tmp_path / "unpacked")
    assert not list(tmp_path.rglob("evil"))


def test_an_archives_links_are_left_out(tmp_path: Path) -> None:
    """One to a folder elsewhere, and a file to be written through it."""
    files = {"model/tokens.txt": b"a 0"}
    path = archive(tmp_path / "a.tar.bz2", files, ("model/out", str(tmp_path)))
    assert [p.name for p in unpack(path, tmp_path / "unpacked").iterdir()] == ["tokens.txt"]


def test_an_archive_that_never_ends_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "LARGEST_ARCHIVE", 100_000)
    path = archive(tmp_path / "a.tar.bz2", {f"m/{n}": bytes(60_000) for n in range(3)})
    with pytest.raises(ModelError, match="more than any model"):
        unpack(path, tmp_path / "unpacked")


def test_what_is_no_archive_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(SPEECH[:1000])
    with pytest.raises(ModelError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar", tmp_path / "unpacked")


# -- models ---------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path, recording: Path) -> Path:
    """A tiny model with a recording, as it lies on a hub."""
    pytest.importorskip("sherpa_onnx")
    from edged.audio.files import open_recording
    from edged.models.check import write_clip
    from tests.plugins.sherpa_models import online_ctc

    folder = tmp_path / "tiny"
    (folder / "test_wavs").mkdir(parents=True)
    speech = np.concatenate(list(open_recording(recording)))[: 3 * 16000]
    write_clip(speech, folder / "test_wavs" / "0.wav")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    return online_ctc(folder)


def put(hub: Hub, model: Path, name: str) -> str:
    files = {f"tiny/{p.relative_to(model)}": p.read_bytes() for p in model.rglob("*.*")}
    archive(hub.folder / name, files)
    return hub.url(name)


def test_a_model_is_pulled_from_an_archive(hub: Hub, model: Path, cache: Path) -> None:
    url = put(hub, model, "sherpa-tiny.tar.bz2")
    hub.breaks_after = [500]
    pulled = pulling.pull(url)
    assert (pulled.name, pulled.precisions) == ("sherpa-tiny", ["fp32"])
    assert store().get("sherpa-tiny").check_text == pulled.check_text
    assert len(read_clip(pulled.path("check.wav"))) == 3 * 16000
    digest = hashlib.sha256((hub.folder / "sherpa-tiny.tar.bz2").read_bytes()).hexdigest()
    assert pulled.source == f"{url} sha256:{digest}"
    assert list((cache / "downloads").iterdir()) == []
    assert tomllib.loads((cache / pulling.FIRST_SEEN).read_text()) == {url: digest}


def test_what_came_but_could_not_be_taken_is_not_fetched_again(hub: Hub, model: Path) -> None:
    (model / "tokens.txt").rename(model / "tokens.bak")
    url = put(hub, model, "sherpa-tiny.tar.bz2")
    for _ in range(2):
        with pytest.raises(ModelError, match="in no layout that edged knows"):
            pulling.pull(url)
    assert len(hub.asked) == 1


def test_an_archive_that_changed_since_it_was_first_seen_is_refused(hub: Hub, model: Path) -> None:
    url = put(hub, model, "sherpa-tiny.tar.bz2")
    pulling.pull(url)
    (hub.folder / "sherpa-tiny.tar.bz2").unlink()
    (model / "README.txt").write_text("another one")
    put(hub, model, "sherpa-tiny.tar.bz2")
    with pytest.raises(ModelError) as raised:
        pulling.pull(url)
    assert raised.value.code == "checksum"


def test_a_model_is_pulled_from_hugging_face(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit of that moment, with the hub's own checksums, and only what is wanted of it."""
    hub.folder = model
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    pulled = pulling.pull(f"hf:owner/tiny@{COMMIT[:7]}", name="mine")
    assert (pulled.name, pulled.language, pulled.licence) == ("mine", "en", "apache-2.0")
    assert pulled.source == f"hf:owner/tiny@{COMMIT}"
    asked = {path.rpartition("/")[2] for path, _ in hub.asked if "/resolve/" in path}
    assert asked == {"model.onnx", "tokens.txt", "0.wav"}


def test_a_file_that_is_not_the_hubs_is_refused(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.folder = model
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    honest = hub.repository()
    (model / "tokens.txt").write_bytes((model / "tokens.txt").read_bytes().swapcase())
    monkeypatch.setattr(Hub, "repository", lambda _hub: honest)
    with pytest.raises(ModelError) as raised:
        pulling.pull(f"hf:owner/tiny@{COMMIT[:7]}")
    assert raised.value.code == "checksum"


def test_the_catalogue_names_archives_on_https() -> None:
    for entry in pulling.catalogue().values():
        assert urlsplit(entry.url).scheme == "https"
        assert entry.url.endswith(pulling.ARCHIVES)
        assert entry.about
        assert len(entry.sha256) in {0, 64}


def test_the_command_line_says_it_in_one_line(free_port: int) -> None:
    def said(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "edged", "models", "pull", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr if done.returncode else done.stdout

    assert "zipformer-en-20m" in said()[1]
    code, line = said("nonesuch")
    assert (code, line.count("\n")) == (3, 1)
    code, line = said(f"http://127.0.0.1:{free_port}/a.tar.gz")
    assert (code, line.count("\n")) == (3, 1)
    assert "cannot be reached" in line
