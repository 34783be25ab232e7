"""Who can reach edged."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator

from edged.config import ServerSection, check_exposure, is_loopback, read_token
from edged.doctor.finding import Finding, fail, ok, skipped, warn
from edged.doctor.holders import opened
from edged.doctor.patient import Patient
from edged.doctor.sockets import holder_of, listening
from edged.errors import ConfigurationError

SHORTEST_TOKEN = 16
MAKE_ONE = "head -c 24 /dev/urandom | base64"


def examine(patient: Patient) -> Iterator[Finding]:
    section = patient.configuration.server
    token = None
    try:
        token = read_token(section)
        check_exposure(patient.configuration, token)
    except ConfigurationError as error:
        yield _refused(section, error)
    yield from _token(section, token)
    yield from _origins(section)
    yield _port(patient)
    yield from _reached(patient)


def _refused(section: ServerSection, error: ConfigurationError) -> Finding:
    """What keeps edged from starting."""
    file = section.token_file
    if file is None or not file.exists():
        return fail("exposed", error.message, "set server.host = 127.0.0.1 in edged.toml")
    if file.stat().st_mode & stat.S_IROTH:
        return fail("token_readable", error.message, f"chmod o= {file}")
    return fail("token", error.message, f"{MAKE_ONE} > {file}")


def _token(section: ServerSection, token: str | None) -> Iterator[Finding]:
    file = section.token_file
    if file and token and len(token) < SHORTEST_TOKEN:
        reason = f"the token in {file} has {len(token)} characters: it can be guessed"
        yield warn("token_short", reason, f"{MAKE_ONE} > {file}")
    elif file and token:
        yield ok("token", f"{file}, {len(token)} characters")


def _origins(section: ServerSection) -> Iterator[Finding]:
    if "*" in section.allowed_origins:
        yield warn(
            "any_origin",
            "server.allowed_origins names *, which is nobody's origin: pages elsewhere stay out",
            'name each in edged.toml: allowed_origins = ["https://NAME"]',
        )


def _port(patient: Patient) -> Finding:
    """Whether edged has its port, or could."""
    section, daemon = patient.configuration.server, patient.daemon
    place = f"{section.host} port {section.port}"
    if daemon.state in {"answers", "hung", "refuses"}:
        return ok("port", f"edged listens ({daemon.address})")
    if section.port == 0:
        return skipped("port", "any free one is taken")
    family = socket.AF_INET6 if ":" in section.host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((section.host, section.port))
        except OSError as error:
            holder = holder_of(section.port)
            by = f" by {holder}" if holder else ""
            reason = f"{place} is taken{by}, and edged cannot listen there ({error.strerror})"
            return fail("port_in_use", reason, "edged run --port 7334, or end that program")
    return ok("port", f"{place} is free")


def _reached(patient: Patient) -> Iterator[Finding]:
    """What really listens, which flags may have changed."""
    if patient.pid is None:
        return
    ours = set(opened(patient.pid))
    open_to_all = [
        f"{address} port {port}"
        for address, port, link in listening()
        if link in ours and not is_loopback(address)
    ]
    if not open_to_all:
        return
    where = ", ".join(open_to_all)
    wyoming = patient.configuration.wyoming
    if wyoming.enabled and wyoming.open_to_network:
        yield warn(
            "open_to_network",
            f"{where}: whoever reaches Wyoming's port {wyoming.port} may use it",
            "set wyoming.open_to_network = false in edged.toml",
        )
    else:
        yield ok("reachable", f"{where}: other machines need the token")
