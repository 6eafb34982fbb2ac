"""Opening a ledger in PostgreSQL: whose schema it is, its version, and the migrations.

Invariants: a schema of another program, or of a newer version, is refused before anything is changed; the schema is
brought up to date in one transaction under a lock of the database, so that of many first starts at once one makes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files as resources
from typing import Any

import psycopg

from polyb2.core.errors import UsageError
from polyb2.ledger.busy_retry import BusyRetry, Rule
from polyb2.ledger.postgres.checks import check_server
from polyb2.ledger.postgres.connection import Address, Server, address_of, server_version
from polyb2.ledger.postgres.errors import RIGHTS
from polyb2.ledger.postgres.lane import Lane
from polyb2.ledger.postgres.store import PostgresStore
from polyb2.ledger.postgres.transaction import Connection
from polyb2.ledger.rows import Check

FIRST_VERSION = 101
"""The schema version of the first migration, as in SQLite."""
OLDEST_SERVER = 13
_LOCK = 0x50423250
"""The advisory lock of those that migrate: "PB2P"."""
_IS_THERE = """
SELECT EXISTS (SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname = 'polyb2' AND c.relname = 'ledger') AS ledger
"""
"""The catalog itself is read: to_regclass may answer from what the session knew before it waited for the lock."""


async def open_store(url: str, *, read_only: bool, make_new: bool, retry: Rule | None = None) -> PostgresStore | None:
    """Open the ledger that a URL names; a writer makes what is missing and brings the schema up to date.

    Returns None where there is none, and none is to be made.

    Raises:
        UsageError: the URL, the server or the schema is none that this version may use.
        LedgerError: the server cannot be used, longer than ``retry`` waits.
    """
    address = address_of(url, writes=not read_only)
    busy_retry = BusyRetry(retry)
    async with _lane(address, busy_retry) as lane:
        version = await busy_retry.tried(lambda: lane.run(lambda connection: _looked_at(connection, address)))
        if read_only and 0 < version < newest_version():
            raise UsageError(
                f"the ledger in {address.place} was written by an older polyb2 (schema {version}, this one reads "
                f"{newest_version()}): run polyb2 ledger migrate, which brings it up to date"
            )
        if not read_only and (version or make_new):
            version = await busy_retry.tried(lambda: lane.run(_migrate))
    return PostgresStore(Server(address, was_open=True), retry) if version else None


async def find_version(url: str) -> int:
    """The version of the schema, 0 where there is none; it is one that this version may use."""
    address = address_of(url, writes=False)
    busy_retry = BusyRetry()
    async with _lane(address, busy_retry) as lane:
        return await busy_retry.tried(lambda: lane.run(lambda connection: _looked_at(connection, address)))


async def check_makeable(url: str) -> list[Check]:
    """Check that a schema can be made; the checks of the server.

    Raises:
        UsageError: the user may not.
        LedgerError: the server cannot be used.
    """
    address = address_of(url, writes=True)
    busy_retry = BusyRetry()
    async with _lane(address, busy_retry) as lane:
        return await busy_retry.tried(lambda: lane.run(lambda connection: _checked_makeable(connection, address)))


def place_of(url: str) -> str:
    """The place that a URL names, for people."""
    return address_of(url, writes=False).place


def newest_version() -> int:
    """The schema version that this program makes."""
    return FIRST_VERSION + len(load_migrations()) - 1


@asynccontextmanager
async def _lane(address: Address, busy_retry: BusyRetry) -> AsyncIterator[Lane]:
    """A connection of its own, for as long as the ledger is opened."""
    lane = Lane(Server(address, is_opening=True), busy_retry)
    try:
        yield lane
    finally:
        await lane.close()


def _checked_makeable(connection: Connection, address: Address) -> list[Check]:
    found = _first(
        connection,
        "SELECT CASE WHEN to_regnamespace('polyb2') IS NULL THEN has_database_privilege(current_database(), 'CREATE') "
        "ELSE has_schema_privilege('polyb2', 'CREATE') END AS may",
    )
    if not found["may"]:
        raise UsageError(f"the ledger cannot be made in {address.place}: {RIGHTS}")
    return check_server(connection, exists=False)


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
        "SELECT to_regnamespace('polyb2') IS NOT NULL AS schema, EXISTS (SELECT 1 FROM pg_attribute "
        "WHERE attrelid = to_regclass('polyb2.ledger') AND attname = 'writers') AS ledger, "
        "EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace('polyb2')) AS anything",
    )
    if not found["ledger"]:
        if found["anything"]:
            raise UsageError(
                f"the schema polyb2 of {address.place} belongs to another program: set DATABASE_URL to another database"
            )
        return 0
    version = _first(connection, "SELECT version, writers FROM polyb2.ledger")
    known = newest_version()
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
        is_there = _first(connection, _IS_THERE)["ledger"]
        done = _first(connection, "SELECT version FROM polyb2.ledger")["version"] if is_there else 0
        for version, script in enumerate(load_migrations(), start=FIRST_VERSION):
            if version > done:
                connection.execute(script)
                # A script says by `writers` if programs of the version before may go on writing.
                connection.execute("UPDATE polyb2.ledger SET version = %s", (version,))
                done = version
    return int(done)


def _first(connection: psycopg.Connection[dict[str, Any]], query: str) -> dict[str, Any]:
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM, or of a table with one row
    return row
