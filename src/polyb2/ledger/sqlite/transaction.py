"""Transactions of one connection: named statements between BEGIN and COMMIT, with the ledger's clock put in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from polyb2.clock import Clock, Moment
from polyb2.ledger.sql.loader import load_statements
from polyb2.ledger.store import Key
from polyb2.ledger.tables import Table, unfit


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

    def columns(self, table: str) -> list[str]:
        return [column[0] for column in self._connection.execute(f"SELECT * FROM {table} LIMIT 0").description]  # noqa: S608 - a name of tables.py

    def dump(self, table: Table, columns: Sequence[str], after: Key, limit: int) -> list[tuple[Any, ...]]:
        return list(map(tuple, self._connection.execute(table.page(columns, "?"), (*after, limit))))

    def fill(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        names, marks = ", ".join(columns), ", ".join("?" for _ in columns)
        try:
            self._connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608 - names of the schema
        except sqlite3.IntegrityError as error:
            raise unfit(table, str(error)) from error

    def empty(self, tables: Sequence[str]) -> None:
        for table in reversed(tables):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of tables.py

    def end_filling(self, tables: Sequence[Table]) -> None:
        """Nothing: rowids go on from the highest, and each statement names its index."""

    def _execute(self, name: str, parameters: dict[str, object]) -> sqlite3.Cursor:
        statement = self._statements[name]
        for key, value in parameters.items():
            if isinstance(value, list):
                parameters[key] = self._text_of(value)
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
