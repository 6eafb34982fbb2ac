"""A connection to the server with a thread of its own: made when it is first used, and again after each loss.

Invariants: whatever of the URL is not ours goes to libpq as the user wrote it; a connection that is cut off is noticed within
seconds and not in hours; nothing of a URL that may hold a password is in any message.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from polyb2.core.errors import UsageError
from polyb2.core.scrub import hide
from polyb2.ledger.group_commit import ended
from polyb2.ledger.postgres.errors import ends_connection, translated
from polyb2.ledger.postgres.transaction import Connection

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
AGE_MAX_S = 600.0
"""A connection is made again after this time: names may lead to another server since, and an old one would not notice."""


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


class Lane:
    """One connection, used by one thread, one piece of work after the other.

    Args:
        address: of the server.
        is_opening: for the opening of a ledger alone, where all that is refused is a mistake of the settings.
    """

    def __init__(self, address: Address, *, is_opening: bool = False) -> None:
        self._address = address
        self._is_opening = is_opening
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._connection: Connection | None = None
        self._made_s = 0.0
        self._was_open = False

    async def run(self, work: Callable[[Connection], T]) -> T:
        """The result of ``work``, which ends before a cancellation goes on.

        Raises:
            LedgerError: the server cannot be used; the next call connects again.
            UsageError: the server refuses the very first connection, or the opening of a ledger.
        """
        return await ended(asyncio.get_running_loop().run_in_executor(self._thread, self._run, work))

    async def close(self) -> None:
        """Close the connection once its work has ended."""
        await ended(asyncio.get_running_loop().run_in_executor(self._thread, self._drop))
        self._thread.shutdown(wait=False)

    def _run(self, work: Callable[[Connection], T]) -> T:
        with translated(self._address.place, is_first=self._is_opening or not self._was_open):
            connection = self._connected()
            try:
                return work(connection)
            except BaseException as error:
                if connection.closed or (isinstance(error, psycopg.Error) and ends_connection(error)):
                    self._drop()
                raise

    def _connected(self) -> Connection:
        now_s = time.monotonic()
        if self._connection is not None and (self._connection.closed or now_s - self._made_s > AGE_MAX_S):
            self._drop()
        if self._connection is None:
            self._connection = Connection.connect(self._address.conninfo, autocommit=True, row_factory=dict_row)
            try:
                self._connection.look_at_pooling()
            except BaseException:  # raised again; a connection without its settings must not be used
                self._drop()
                raise
            self._made_s, self._was_open = now_s, True
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


def server_version(connection: psycopg.Connection[Any]) -> int:
    """The major version of the server."""
    return connection.info.server_version // 10_000
