"""Transactions of one connection: named statements between BEGIN and COMMIT, with the ledger's clock put in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from polyb2.clock import Clock, Moment
from polyb2.ledger.sql.loader import load_statements
from polyb2.ledger.store import Row


class SqliteTransaction:
    """As :class:`~polyb2.ledger.store.Transaction`; the clock is read once it has begun, and stands still within it."""

    def __init__(self, connection: sqlite3.Connection, now: Moment) -> None:
        self.now_ms = now.wall_ms
        self._clock = {"now_ms": now.wall_ms, "mono_ms": now.mono_ms, "boot_id": now.boot_id}
        self._connection = connection
        self._statements = load_statements("sqlite")

    def run(self, name: str, /, **parameters: object) -> int:
        return self._execute(name, parameters).rowcount

    def row(self, name: str, /, **parameters: object) -> Row | None:
        # All are fetched: RETURNING has only then changed every row.
        rows = self.rows(name, **parameters)
        return rows[0] if rows else None

    def rows(self, name: str, /, **parameters: object) -> list[Row]:
        cursor = self._execute(name, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _execute(self, name: str, parameters: dict[str, object]) -> sqlite3.Cursor:
        statement = self._statements[name]
        for key, value in parameters.items():
            if isinstance(value, list):
                parameters[key] = json.dumps(value)
        if statement.uses_clock:
            parameters |= self._clock
        return self._connection.execute(statement.sql, parameters)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """A savepoint around a piece: an error within undoes the piece, and goes on."""
        self._connection.execute("SAVEPOINT apart")
        try:
            yield
        except Exception:
            # After a full disk there is no transaction left, and no savepoint.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO apart")
                self._connection.execute("RELEASE apart")
            raise
        self._connection.execute("RELEASE apart")


@contextmanager
def writing(connection: sqlite3.Connection, clock: Clock) -> Iterator[SqliteTransaction]:
    """A transaction that is the only one to write."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield SqliteTransaction(connection, clock.now())
        connection.execute("COMMIT")
    except BaseException:  # whatever it is, it is raised again, and half a write must not stay open
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def reading(connection: sqlite3.Connection, clock: Clock) -> Iterator[SqliteTransaction]:
    """A transaction that sees one state of the ledger."""
    connection.execute("BEGIN")
    try:
        yield SqliteTransaction(connection, clock.now())
    finally:
        connection.execute("COMMIT")
