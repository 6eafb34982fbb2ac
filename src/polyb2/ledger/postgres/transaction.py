"""Transactions of one connection: named statements between BEGIN and COMMIT, with the server's clock put in.

A write also sets the number of its connection's row in ``writers``, within the transaction: so an answer to COMMIT that was
lost can be looked up, and is not guessed. The settings of a session are set for each transaction, as a pooler may hand every
transaction to another session.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg

from polyb2.ledger.group_commit import CommitUnknownError
from polyb2.ledger.sql.loader import load_statements
from polyb2.ledger.store import Row

Connection = psycopg.Connection[dict[str, Any]]
STATEMENT_MS = 30_000
LOCK_MS = 10_000
IDLE_MS = 60_000
_PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")
_LIMITS = (
    f"set_config('statement_timeout', '{STATEMENT_MS}', true), set_config('lock_timeout', '{LOCK_MS}', true), "
    f"set_config('idle_in_transaction_session_timeout', '{IDLE_MS}', true)"
)
_BEGIN = (
    "BEGIN ISOLATION LEVEL {level}; "
    f"SELECT set_config('search_path', 'polyb2, pg_temp', true), {_LIMITS}, polyb2.now_ms() AS now_ms"
)
_BEGIN_READING = _BEGIN.format(level="REPEATABLE READ READ ONLY")
_BEGIN_WRITING = _BEGIN.format(level="READ COMMITTED")
"""Without READ WRITE: a server that was set to read-only, or is a standby by now, then refuses a write as such (25006)."""
_NOTE_NUMBER = (
    "; INSERT INTO polyb2.writers (id, number, noted_ms) VALUES ('{id}', {number}, polyb2.now_ms()) "
    "ON CONFLICT (id) DO UPDATE SET number = excluded.number, noted_ms = excluded.noted_ms"
)


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
    with _begun(connection, _BEGIN_WRITING, _NOTE_NUMBER.format(id=writer.id, number=writer.number)) as tx:
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
def _begun(connection: Connection, begin: str, note: str = "") -> Iterator[PostgresTransaction]:
    """A transaction in which the block runs; rolled back if that raises, else left open for the caller's COMMIT."""
    try:
        # Several statements without parameters travel as one message: one round trip for all.
        cursor = connection.execute(begin + note)
        cursor.nextset()
        row = cursor.fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM
        yield PostgresTransaction(connection, row["now_ms"])
    except BaseException:  # raised again, and no transaction must stay open
        with suppress(psycopg.Error):
            connection.rollback()
        raise
