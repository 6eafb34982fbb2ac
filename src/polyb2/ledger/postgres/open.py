"""Opening a ledger in PostgreSQL: whose schema it is, its version, and the migrations.

Invariants: a schema of another program, or of a newer version, is refused before anything is changed; the schema is
brought up to date in one transaction under a lock of the database, so that of many first starts at once one makes it.
"""

from __future__ import annotations

from importlib.resources import files as resources
from typing import Any

import psycopg

from polyb2.core.errors import UsageError
from polyb2.ledger.busy_retry import BusyRetry, Rule
from polyb2.ledger.postgres.connection import Address, Server, address_of, server_version
from polyb2.ledger.postgres.lane import Lane
from polyb2.ledger.postgres.store import PostgresStore
from polyb2.ledger.postgres.transaction import Connection

FIRST_VERSION = 101
"""The schema version of the first migration, as in SQLite."""
OLDEST_SERVER = 13
_LOCK = 0x50423250
"""The advisory lock of those that migrate: "PB2P"."""


async def open_store(url: str, *, read_only: bool, make_new: bool, retry: Rule | None = None) -> PostgresStore | None:
    """Open the ledger that a URL names; a writer makes what is missing and brings the schema up to date.

    Returns None where there is none, and none is to be made.

    Raises:
        UsageError: the URL, the server or the schema is none that this version may use.
        LedgerError: the server cannot be used, longer than ``retry`` waits.
    """
    address = address_of(url, writes=not read_only)
    server, busy_retry = Server(address), BusyRetry(retry)
    lane = Lane(server, busy_retry)
    try:
        version = await busy_retry.tried(lambda: lane.run(lambda connection: _looked_at(connection, address)))
        if not read_only and (version or make_new):
            version = await busy_retry.tried(lambda: lane.run(_migrate))
    finally:
        await lane.close()
    return PostgresStore(server, retry) if version else None


def load_migrations() -> list[str]:
    """The migration scripts in order; the first leads to schema version :data:`FIRST_VERSION`."""
    folder = resources("polyb2.ledger.postgres").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [folder.joinpath(name).read_text(encoding="utf-8") for name in names]


def _looked_at(connection: Connection, address: Address) -> int:
    """The version of the schema; 0 where there is none.

    Raises:
        UsageError: it is not for this version, or not ours.
    """
    if server_version(connection) < OLDEST_SERVER:
        raise UsageError(
            f"{address.place} is PostgreSQL {server_version(connection)}; polyb2 needs {OLDEST_SERVER} or newer"
        )
    found = _first(
        connection,
        "SELECT to_regnamespace('polyb2') IS NOT NULL AS schema, to_regclass('polyb2.ledger') IS NOT NULL AS ledger, "
        "EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace('polyb2')) AS anything",
    )
    if not found["ledger"]:
        if found["anything"]:
            raise UsageError(
                f"the schema polyb2 of {address.place} belongs to another program: set DATABASE_URL to another database"
            )
        return 0
    version = _first(connection, "SELECT version, writers FROM polyb2.ledger")
    known = FIRST_VERSION + len(load_migrations()) - 1
    if version["version"] > known and version["writers"] > known:
        raise UsageError(
            f"the ledger in {address.place} was written by a newer polyb2 (schema {version['version']}, this one knows "
            f"{known}): upgrade polyb2, or set DATABASE_URL to another database"
        )
    return int(version["version"])


def _migrate(connection: Connection) -> int:
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '30s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        is_there = _first(connection, "SELECT to_regclass('polyb2.ledger') IS NOT NULL AS ledger")["ledger"]
        done = _first(connection, "SELECT version FROM polyb2.ledger")["version"] if is_there else 0
        for version, script in enumerate(load_migrations(), start=FIRST_VERSION):
            if version > done:
                connection.execute(script)
                done = version
    return int(done)


def _first(connection: psycopg.Connection[dict[str, Any]], query: str) -> dict[str, Any]:
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM, or of a table with one row
    return row
