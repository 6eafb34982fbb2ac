"""Transactions of one connection: named statements between BEGIN and COMMIT, with the server's clock put in.

A write also sets the number of its connection's row in ``writers``, within the transaction: so an answer to COMMIT that was
lost can be looked up, and is not guessed. The settings of a session are set for each transaction, as a pooler may hand every
transaction to another session.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg

from polyb2.ledger.group_commit import CommitUnknownError
from polyb2.ledger.sql.loader import load_statements
from polyb2.ledger.store import Key, Row
from polyb2.ledger.tables import Table, unfit

_PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")
SETTINGS = {
    "search_path": "polyb2, pg_temp",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    # Every statement that is asked often has an index of its own. The planner takes no hints; it would leave the index as
    # long as a table is new and has no statistics, and then keep to the plan that it made.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
"""Settings of our sessions; all of PostgreSQL's own time-outs are off by default."""
_SET = "SELECT " + ", ".join(f"set_config('{name}', '{value}', {{is_local}})" for name, value in SETTINGS.items())
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Without READ WRITE: a server that was set to read-only, or is a standby by now, then refuses a write as such (25006)."""
_CLOCK = "SELECT polyb2.now_ms() AS now_ms"
_NOTE_NUMBER = (
    "INSERT INTO polyb2.writers (id, number, noted_ms) VALUES ('{id}', {number}, polyb2.now_ms()) "
    "ON CONFLICT (id) DO UPDATE SET number = excluded.number, noted_ms = excluded.noted_ms RETURNING noted_ms AS now_ms"
)


class Connection(psycopg.Connection[dict[str, Any]]):
    """A session of the server, or through a pooler one for each transaction.

    Attributes:
        is_pooled: a pooler is in between.
        asked_s: since when it waits for an answer, by the monotonic clock; 0 while it does not.
    """

    is_pooled = True
    asked_s = 0.0

    def wait(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - of psycopg, handed on
        self.asked_s = time.monotonic()
        try:
            return super().wait(*arguments, **options)
        finally:
            self.asked_s = 0.0

    def look_at_pooling(self) -> None:
        """Find out if a pooler is in between: it gives us a process number of its own making."""
        row = self.execute("SELECT pg_backend_pid() AS pid").fetchone()
        self.is_pooled = row is None or row["pid"] != self.info.backend_pid
        if self.is_pooled:
            # The next session knows no statements that were prepared by name.
            self.prepare_threshold = None
        else:
            self.execute(_SET.format(is_local=False))


@dataclass(slots=True)
class Writer:
    """A writing connection over all its losses.

    Attributes:
        id: of its row in ``writers``.
        number: of its last transaction.
        confirmed: the number of the last one that the server said was committed.
    """

    id: str
    number: int = 0
    confirmed: int = 0


class PostgresTransaction:
    """As :class:`~polyb2.ledger.store.Transaction`; ``now_ms`` is when it began."""

    def __init__(self, connection: Connection, now_ms: int) -> None:
        self.now_ms = now_ms
        self._cursor = connection.cursor()

    def run(self, name: str, /, **parameters: object) -> int:
        self._execute(name, parameters)
        return self._cursor.rowcount

    def row(self, name: str, /, **parameters: object) -> Row | None:
        self._execute(name, parameters)
        return self._cursor.fetchone()

    def one(self, name: str, /, **parameters: object) -> Row:
        return self.rows(name, **parameters)[0]

    def rows(self, name: str, /, **parameters: object) -> list[Row]:
        self._execute(name, parameters)
        return list(self._cursor.fetchall())

    def columns(self, table: str) -> list[str]:
        cursor = self._cursor.execute(f"SELECT * FROM {table} LIMIT 0")  # noqa: S608 - a name of tables.py
        return [column.name for column in cursor.description or ()]

    def dump(self, table: Table, columns: Sequence[str], after: Key, limit: int) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self._cursor.execute(table.page(columns, "%s"), (*after, limit))]

    def fill(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        try:
            # COPY is a third of the time of INSERT, and keeps ids that the database would else give.
            with self._cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            raise unfit(table, str(error.diag.message_primary or error)) from error

    def empty(self, tables: Sequence[str]) -> None:
        self._cursor.execute(f"TRUNCATE {', '.join(tables)}")

    def end_filling(self, tables: Sequence[Table]) -> None:
        for name in (table.name for table in tables if table.is_numbered):
            highest = f"SELECT max(id) FROM {name}"  # noqa: S608 - a name of tables.py
            self._cursor.execute(f"SELECT setval(pg_get_serial_sequence('polyb2.{name}', 'id'), ({highest}))")
        self._cursor.execute(f"ANALYZE {', '.join(table.name for table in tables)}")

    @contextmanager
    def apart(self) -> Iterator[None]:
        """A savepoint around a piece: an error within undoes the piece, and goes on."""
        self._cursor.execute("SAVEPOINT apart")
        try:
            yield
        except Exception:
            with suppress(psycopg.OperationalError):  # a lost connection: the error that is under way says so
                self._cursor.execute("ROLLBACK TO apart")
            raise
        self._cursor.execute("RELEASE apart")

    def _execute(self, name: str, parameters: dict[str, object]) -> None:
        sql, uses_now = _statements()[name]
        for key, value in parameters.items():
            if isinstance(value, list):
                parameters[key] = json.dumps(value)
        if uses_now:
            parameters["now_ms"] = self.now_ms
        self._cursor.execute(sql, parameters)


@cache
def _statements() -> dict[str, tuple[str, bool]]:
    """The statements in psycopg's form, each with whether it takes the clock."""
    found = load_statements("postgres")
    return {name: (as_psycopg(one.sql), one.uses_clock) for name, one in found.items()}


def as_psycopg(sql: str) -> str:
    """A statement of ``sql/`` with its parameters as psycopg writes them. Only files of ours come here."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))


@contextmanager
def writing(connection: Connection, writer: Writer) -> Iterator[PostgresTransaction]:
    """A transaction that can write, committed at the end of the block.

    Raises:
        CommitUnknownError: nobody knows yet if it was committed.
    """
    writer.number += 1
    note = _NOTE_NUMBER.format(id=writer.id, number=writer.number)
    with _begun(connection, _BEGIN_WRITING, note) as tx:
        yield tx
    try:
        connection.execute("COMMIT")
    except psycopg.OperationalError as error:
        raise CommitUnknownError from error
    writer.confirmed = writer.number


@contextmanager
def reading(connection: Connection) -> Iterator[PostgresTransaction]:
    """A transaction that sees one state of the ledger."""
    with _begun(connection, _BEGIN_READING) as tx:
        yield tx
    connection.execute("COMMIT")


def last_committed(connection: Connection, writer: Writer) -> int:
    """The number of the writer's last transaction that the server knows; waits for the end of one that is still under way.

    A standby that was promoted without some of them says so, and is right.
    """
    with _begun(connection, _BEGIN_WRITING):
        query = "SELECT number FROM polyb2.writers WHERE id = %s FOR UPDATE"
        found = connection.execute(query, (writer.id,)).fetchone()
    connection.rollback()
    return 0 if found is None else int(found["number"])


@contextmanager
def _begun(connection: Connection, begin: str, first: str = _CLOCK) -> Iterator[PostgresTransaction]:
    """A transaction in which the block runs; rolled back if that raises, else left open for the caller's COMMIT."""
    try:
        # Several statements without parameters travel as one message: one round trip for all.
        words = [begin, _SET.format(is_local=True), first] if connection.is_pooled else [begin, first]
        cursor = connection.execute("; ".join(words))
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        assert row is not None  # noqa: S101 - of a SELECT without FROM, or of RETURNING
        yield PostgresTransaction(connection, row["now_ms"])
    except BaseException:  # raised again, and no transaction must stay open
        with suppress(psycopg.Error):
            connection.rollback()
        raise
