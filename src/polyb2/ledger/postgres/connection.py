"""The address of a server, and what there is to know of a connection to it.

Invariants: whatever of the URL is not ours goes to libpq as the user wrote it; a wire that is cut is noticed within seconds
and not in hours; nothing of a URL that may hold a password is in any message.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from polyb2.core.errors import UsageError
from polyb2.core.scrub import hide

T = TypeVar("T")
DEFAULTS = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "polyb2",
}
"""Settings of libpq where the URL has none: a server that is cut off is noticed after some ten seconds."""
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)


@dataclass(frozen=True, slots=True)
class Address:
    """A server and database.

    Attributes:
        conninfo: for libpq; with the password.
        place: the same for people.
    """

    conninfo: str
    place: str


def address_of(url: str, *, writes: bool) -> Address:
    """The address that a URL names.

    Raises:
        UsageError: it is no URL of PostgreSQL.
    """
    given = _read(url)
    hide(given.get("password"))
    if writes:
        # Of several hosts, the one that takes writes; never a standby.
        given.setdefault("target_session_attrs", "read-write")
    if given.get("sslrootcert") == "system" and given.setdefault("sslmode", "verify-full") == "verify-full":
        given["sslrootcert"] = _system_roots()
    host, port = given.get("host") or given.get("hostaddr") or "", given.get("port") or "5432"
    where = host if host.startswith("/") or not host else f"{host}:{port}"
    place = f"postgresql://{where}/{given.get('dbname') or given.get('user') or ''}"
    return Address(make_conninfo(**{**DEFAULTS, **given}), place)


def _read(url: str) -> dict[str, str]:
    """The settings of libpq in a URL; where special characters of a password were not encoded, a piece of it is the host."""
    with suppress(psycopg.ProgrammingError):  # its words may quote a piece of the password
        given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        ports = given.get("port", "").split(",")
        if all(port.isdecimal() or not port for port in ports) and "@" not in given.get("host", ""):
            return given
    raise UsageError(
        "DATABASE_URL cannot be read as postgresql://user:password@host:port/database?setting=value; write special "
        "characters in user and password like %40 for @"
    )


def _system_roots() -> str:
    """The file with the authorities that this system trusts, or that of ``SSL_CERT_FILE``.

    psycopg's binary package has an OpenSSL of its own, which looks in a folder that is not there, and would trust nobody.
    """
    found = (path for path in (ssl.get_default_verify_paths().cafile, *_BUNDLES) if path and Path(path).is_file())
    return next(found, "system")


@dataclass(slots=True)
class Server:
    """The server at an address, as the lanes of a store know it.

    Attributes:
        address: of the server.
        is_opening: for the opening of a ledger alone, where all that is refused is a mistake of the settings.
        was_open: a connection was made once: what is refused since then is trouble, and no mistake of the settings.
        losses: connections that were lost. After each, all lanes connect again: the address may lead to another server, and
            the former one may still answer who has a connection to it.
    """

    address: Address
    is_opening: bool = False
    was_open: bool = False
    losses: int = 0


def server_version(connection: psycopg.Connection[Any]) -> int:
    """The major version of the server."""
    return connection.info.server_version // 10_000
