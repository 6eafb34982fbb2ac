"""Transactions of one connection: named statements between BEGIN and COMMIT, with the ledger's clock put in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from polyb2.clock import Clock, Moment
from polyb2.ledger.sql.loader import load_statements


class SqliteTransaction:
    """As :class:`~polyb2.ledger.store.Transaction`; the clock is read once it has begun, and stands still within it."""

    def __init__(self, connection: sqlite3.Connection, now: Moment) -> None:
        self.now_ms = now.wall_ms
        self._clock = {"now_ms": now.wall_ms, "mono_ms": now.mono_ms, "boot_id": now.boot_id}
        self._connection = connection
        self._statements = load_statements("sqlite")
        self._array: tuple[object, str] = (None, "")

    def run(self, name: str, /, **parameters: object) -> int:
        return self._execute(name, parameters).rowcount

    def row(self, name: str, /, **parameters: object) -> sqlite3.Row | None:
        return next(iter(self.rows(name, **parameters)), None)

    def one(self, name: str, /, **parameters: object) -> sqlite3.Row:
        return self.rows(name, **parameters)[0]

    def rows(self, name: str, /, **parameters: object) -> list[sqlite3.Row]:
        # All are fetched: RETURNING has only then changed every row.
        return self._execute(name, parameters).fetchall()

    def _execute(self, name: str, parameters: dict[str, object]) -> sqlite3.Cursor:
        statement = self._statements[name]
        for key, value in parameters.items():
            if isinstance(value, list):
                parameters[key] = self._text_of(value)
        if statement.uses_clock:
            parameters |= self._clock
        return self._connection.execute(statement.sql, parameters)

    def _text_of(self, array: list[object]) -> str:
        """The array as JSON; a settlement passes the same one to four statements."""
        known, text = self._array
        if known is not array:
            text = json.dumps(array)
            self._array = array, text
        return text


@contextmanager
def begun(connection: sqlite3.Connection, clock: Clock, *, to_write: bool) -> Iterator[SqliteTransaction]:
    """A transaction that sees one state of the ledger, and is the only one to write, if it is to."""
    connection.execute("BEGIN IMMEDIATE" if to_write else "BEGIN")
    try:
        yield SqliteTransaction(connection, clock.now())
        connection.execute("COMMIT")
    except BaseException:  # whatever it is, it is raised again, and half a write must not stay open
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
