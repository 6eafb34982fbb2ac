"""The stores that the conformance suite runs on: each a place for one test's ledger, with a look into its tables."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import psycopg

from polyb2.clock import Clock, Moment
from polyb2.ledger.postgres.open import load_migrations
from tests.postgres import PostgresServer

STORES = ("sqlite", "postgresql")
"""The stores that the suite runs on, by the scheme of their URL."""
REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError)
"""What a constraint of the schema raises."""


class SetClock(Clock):
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.moment = Moment(1_767_225_600_000, 5_000_000, "this boot")
        self.server: psycopg.Connection[dict[str, Any]] | None = None
        """Of a ledger whose server has a clock of its own, which goes on with this one."""

    def now(self) -> Moment:
        return self.moment

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        passed = int(seconds * 1000)
        self.moment = Moment(self.moment.wall_ms + passed, self.moment.mono_ms + passed, self.moment.boot_id)
        if self.server is not None:
            self.server.execute("UPDATE public.set_clock SET now_ms = now_ms + %s", (passed,))

    def step(self, seconds: float) -> None:
        """Set this host's wall clock to another time; no time passes."""
        self.moment = Moment(self.moment.wall_ms + int(seconds * 1000), self.moment.mono_ms, self.moment.boot_id)

    def reboot(self) -> None:
        self.moment = Moment(self.moment.wall_ms, 1000, "another boot")

    def go_by_the_clocks_of(self, clock: Clock) -> None:
        """Set all of its readings, and the server's."""
        self.moment = clock.now()
        if self.server is not None:
            self.server.execute("UPDATE public.set_clock SET now_ms = %s", (self.moment.wall_ms,))


class Place(Protocol):
    """Where a test's ledger is."""

    @property
    def url(self) -> str:
        """As ``DATABASE_URL`` has it."""

    def sql(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Read tables by a connection of the test's own; ``?`` are the parameters."""

    def close(self) -> None:
        """End the connection of the test."""


class SqlitePlace:
    """A file in the test's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.db"
        self.url = f"sqlite:///{self.path}"
        self._reader: sqlite3.Connection | None = None

    def sql(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        if self._reader is None:
            self._reader = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)
            self._reader.row_factory = sqlite3.Row
        return [dict(row) for row in self._reader.execute(statement, parameters)]

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


class PostgresPlace:
    """A database of a server that all tests share; its clock is the test's."""

    def __init__(self, server: PostgresServer, clock: SetClock) -> None:
        self._server = server
        self.database = server.new_database(template_of(server))
        self.url = server.url(self.database)
        self._connection = server.connect(self.database)
        self._connection.execute("SET search_path = polyb2, public")
        clock.server = self._connection

    def sql(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        cursor = self._connection.execute(statement.replace("?", "%s"), parameters)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._connection.close()
        self._server.drop_database(self.database)


def template_of(server: PostgresServer) -> str:
    """The database that those of the tests are copied from: the schema, and a clock that is a row of a table."""
    with closing(server.connect()) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'ledger'").fetchone():
            return "ledger"
        connection.execute("CREATE DATABASE ledger")
    with closing(server.connect("ledger")) as connection:
        for script in load_migrations():
            connection.execute(script)
        connection.execute("CREATE TABLE public.set_clock AS SELECT %s::bigint AS now_ms", (SetClock().wall_ms(),))
        connection.execute(
            "CREATE OR REPLACE FUNCTION polyb2.now_ms() RETURNS bigint LANGUAGE sql VOLATILE "
            "AS 'SELECT now_ms FROM public.set_clock'"
        )
    return "ledger"


def read_sql(path: Path, statement: str, *parameters: object) -> list[dict[str, Any]]:
    """Read a SQLite ledger by a connection that is closed again."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement, parameters)]
