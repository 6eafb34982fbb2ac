"""The address of a server, and what there is to know of a connection to it.

Invariants: whatever of the URL is not ours goes to libpq as the user wrote it; a wire that is cut is noticed within seconds
and not in hours; nothing of a URL that may hold a password is in any message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from polyb2.core.errors import UsageError
from polyb2.core.scrub import hide
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
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.ProgrammingError:
        # Its words may quote a piece of the password.
        raise UsageError(
            "DATABASE_URL cannot be read as postgresql://user:password@host:port/database?setting=value; write special "
            "characters in user and password like %40 for @"
        ) from None
    hide(given.get("password"))
    if writes:
        # Of several hosts, the one that takes writes; never a standby.
        given.setdefault("target_session_attrs", "read-write")
    host, port = given.get("host") or given.get("hostaddr") or "", given.get("port") or "5432"
    where = host if host.startswith("/") or not host else f"{host}:{port}"
    place = f"postgresql://{where}/{given.get('dbname') or given.get('user') or ''}"
    return Address(make_conninfo(**{**DEFAULTS, **given}), place)


@dataclass(slots=True)
class Server:
    """The server at an address, as the lanes of a store know it.

    Attributes:
        address: of the server.
        was_open: a connection was made once: what is refused since then is trouble, and no mistake of the settings.
        losses: connections that were lost. After each, all lanes connect again: the address may lead to another server, and
            the former one may still answer who has a connection to it.
    """

    address: Address
    was_open: bool = False
    losses: int = 0


def is_pooled(connection: Connection) -> bool:
    """True if a pooler is between us and the server: it gives us a process number of its own making."""
    row = connection.execute("SELECT pg_backend_pid() AS pid").fetchone()
    return row is None or row["pid"] != connection.info.backend_pid


def server_version(connection: psycopg.Connection[Any]) -> int:
    """The major version of the server."""
    return connection.info.server_version // 10_000
