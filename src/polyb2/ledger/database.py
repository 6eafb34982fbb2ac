"""One connection to the ledger, written by whole transactions, read in short ones.

Invariants: one writing connection a process, and readers that are made from it (:meth:`Database.reader`); a write is one
function run on aiosqlite's thread between BEGIN IMMEDIATE and COMMIT, so that no other task's statement can fall into it and
cancelling the awaiting task never leaves half of it. Writes that come at the same time are made durable together
(``commits.py``). No write begins, or is answered, unless the names still lead to the files that SQLite has open.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import aiosqlite

from polyb2.core.errors import LedgerBusyError, LedgerError, LedgerGoneError, UsageError
from polyb2.failpoints import failpoint
from polyb2.ledger.commits import Commits, Outcome, Shared, Works, carried_out
from polyb2.ledger.files import can_write_beside, check_readable, find, make
from polyb2.ledger.lock import FileLock, has_wal_reset_bug, translated
from polyb2.ledger.opening import connect, connect_to_nothing, find_damage, inspect
from polyb2.ledger.patience import Patience
from polyb2.ledger.queries import load_queries
from polyb2.ledger.watched import Watched

T = TypeVar("T")
W = TypeVar("W")
Item = TypeVar("Item")
Row = Mapping[str, Any]
WATCH_EVERY_S = 1.0
"""How often an idle process looks whether its ledger is still there; a write looks each time."""


class Transaction:
    """Named statements on one connection; handed to the functions that :meth:`Database.write` and ``read`` run."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queries = load_queries()

    def run(self, name: str, /, **parameters: object) -> int:
        """Run a statement; the number of rows that it changed."""
        return self._connection.execute(self._queries[name], parameters).rowcount

    def row(self, name: str, /, **parameters: object) -> Row | None:
        """The first row of a statement, or None."""
        rows: list[Row] = self._connection.execute(self._queries[name], parameters).fetchall()
        return rows[0] if rows else None

    def rows(self, name: str, /, **parameters: object) -> list[Row]:
        return self._connection.execute(self._queries[name], parameters).fetchall()


@dataclass(frozen=True, slots=True)
class Opened:
    """What a connection was opened on: the lock, and the files; no files are those of a ledger that does not exist."""

    lock: FileLock
    files: Watched | None


class Database:
    """An open ledger file; use :func:`open_database`."""

    def __init__(self, connection: aiosqlite.Connection, opened: Opened, patience: Patience) -> None:
        self.patience = patience
        self._connection = connection
        self._lock, self._files = opened.lock, opened.files
        self._commits = Commits(lambda works: self._submit(self._transact, works), patience.tried)

    async def write(self, name: str, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` as one write; all of it or nothing is in the ledger afterwards, and all of it is durable on return.

        ``work`` is run again from the beginning where a write beside it fails or the ledger is busy, so it changes nothing
        but the ledger.

        Raises:
            LedgerError: the file cannot be written, for longer than the patience allows.
        """
        return await self._write(name, lambda connection: work(Transaction(connection)))

    async def write_shared(self, name: str, work: Callable[[Transaction, Sequence[Item]], list[T]], item: Item) -> T:
        """As :meth:`write`, where ``work`` does at once what waits under this name, and gives a result for each item."""
        return await self._write(
            name, Shared(name, lambda connection, items: work(Transaction(connection), items), item)
        )

    async def _write(self, name: str, work: Callable[[sqlite3.Connection], T]) -> T:
        failpoint(f"ledger.{name}.before")
        result = await self._commits.write(work)
        failpoint(f"ledger.{name}.after")
        return result

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` as one short read transaction (LedgerError as for :meth:`write`)."""
        return await self.patience.tried(lambda: self._submit(_read, work))

    @property
    def gone(self) -> LedgerGoneError | None:
        """What became of the ledger's files, once that was noticed."""
        return self._files.problem if self._files is not None else None

    async def watch(self) -> NoReturn:
        """Look again and again whether the files are still those that were opened.

        Raises:
            LedgerGoneError: they are not.
        """
        while True:
            await self.patience.tried(lambda: self._submit(self._look, None))
            await asyncio.sleep(WATCH_EVERY_S)

    async def reader(self) -> Database:
        """A second connection to the same files, which cannot write; SQLite makes it, so that the first keeps its locks.

        Raises:
            LedgerError: it cannot be opened, or the files are gone.
        """
        if self._files is None:
            return Database(await _connected(connect_to_nothing), Opened(self._lock, None), Patience())
        files = self._files
        connection = await _connected(partial(_connect_beside, files, self._lock))
        return Database(connection, Opened(self._lock, files), Patience())

    async def close(self) -> None:
        """Let what was submitted end, then close, whatever the ledger's state."""
        await self._commits.idle()
        await self._submit(self._close, None)
        await _finished(asyncio.ensure_future(self._connection.close()))

    def _close(self, connection: sqlite3.Connection, _nothing: None) -> None:
        # On the connection's own thread: a write ahead of it in the queue needs the same lock. Without the lock nothing is
        # at stake: its holder has the ledger open, so that this is not the last connection and checkpoints nothing.
        # Nothing of a ledger that is gone is made again, not even its lock.
        if self.gone is None:
            with suppress(LedgerError, UsageError), self._lock.held():
                connection.close()
        connection.close()

    async def _submit(self, run: Callable[[sqlite3.Connection, W], T], work: W) -> T:
        # aiosqlite's public calls are one statement each; its thread takes any function (the minor version is pinned).
        connection = self._connection
        return await _finished(
            asyncio.ensure_future(
                connection._execute(run, connection._conn, work)  # type: ignore[no-untyped-call]  # noqa: SLF001
            )
        )

    def _transact(self, connection: sqlite3.Connection, works: Works) -> list[Outcome]:
        files = self._files
        if files is None:
            with self._lock.held(), translated():
                return carried_out(connection, works)
        files.check()
        with self._lock.held(), translated():
            _check_whole(connection, files)
            outcomes = carried_out(connection, works)
            # What went into a file that was removed meanwhile is not durable, and must not be answered as if it were.
            files.check()
            files.note_sizes()
            return outcomes

    def _look(self, connection: sqlite3.Connection, _nothing: None) -> None:
        files = self._files
        if files is None:
            return
        files.check()
        if files.has_shrunk():
            with self._lock.held(), translated():
                _check_whole(connection, files)


def _check_whole(connection: sqlite3.Connection, files: Watched) -> None:
    """Raise if the files are not those that SQLite has open, or have lost pages (LedgerGoneError)."""
    files.check()
    if files.has_shrunk():
        if damage := find_damage(connection, files.real):
            raise files.lost(f"{files.real} or its -wal was cut or overwritten ({damage})")
        files.note_sizes()


def _connect_beside(files: Watched, lock: FileLock) -> sqlite3.Connection:
    files.check()
    return _kept_if(connect(files.real, lock, read_only=True), files.check)


def _kept_if(connection: sqlite3.Connection, look: Callable[[], None]) -> sqlite3.Connection:
    """The connection, once ``look`` found nothing wrong; else it is closed, and what ``look`` raised goes on."""
    try:
        look()
    except BaseException:  # raised again; nobody else knows of the connection
        connection.close()
        raise
    return connection


async def _finished(task: asyncio.Future[T]) -> T:
    """The task's result; however often the caller is cancelled, the task ends before that goes on."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # Looked at, so that nothing is said to be lost; the cancellation is what the caller hears of.
        task.exception()
        raise cancelled
    return task.result()


def _read(connection: sqlite3.Connection, work: Callable[[Transaction], T]) -> T:
    with translated():
        connection.execute("BEGIN")
        try:
            return work(Transaction(connection))
        finally:
            connection.execute("COMMIT")


async def open_database(path: Path, *, read_only: bool = False) -> Database:
    """Open the ledger at ``path``; a writer creates what is missing and brings the schema up to date.

    This is the only way in: a further connection of the same process is a :meth:`Database.reader`.

    Raises:
        UsageError: the place is unusable, or the file is not a ledger that this version may touch.
        LedgerError: another process held the ledger for half a minute, or the file cannot be used.
    """
    real, patience = find(path), Patience()
    if not read_only:
        make(real)
    lock = FileLock(real, needed=has_wal_reset_bug(), reading=read_only)
    if not check_readable(real):
        return Database(await _connected(connect_to_nothing), Opened(lock, None), patience)
    inspect(real)
    if not read_only:
        lock.make()
    files = Watched(real)
    connection = await patience.tried(lambda: _connected(partial(_connect, files, lock, read_only=read_only)))
    return Database(connection, Opened(lock, None if read_only else files), patience)


def _connect(files: Watched, lock: FileLock, *, read_only: bool) -> sqlite3.Connection:
    with _place_named(files.real):
        if read_only:
            return connect(files.real, lock, read_only=True)
        files.begin()
        # Nobody else closes the ledger as its last user while we have it open: the files stay as they are now.
        return _kept_if(connect(files.real, lock, read_only=False), files.note)


@contextmanager
def _place_named(real: Path) -> Iterator[None]:
    """A ledger that SQLite cannot open, where nothing can be written beside it, is in the wrong place: SQLite says only that.

    Raises:
        UsageError: so it is.
    """
    try:
        yield
    except LedgerError as error:
        if isinstance(error, LedgerBusyError) or can_write_beside(real):
            raise
        raise UsageError(
            f"the ledger {real} cannot be opened: uid {os.geteuid()} cannot write to its folder, and SQLite keeps files "
            "beside a ledger even to read it; make the folder writable, or copy the ledger and set DATABASE_URL to the copy"
        ) from error


async def _connected(connect: Callable[[], sqlite3.Connection]) -> aiosqlite.Connection:
    connection = aiosqlite.Connection(connect, iter_chunk_size=64)
    try:
        return await connection
    except BaseException:  # a cancellation as well; raised again
        # Its thread tells the loop when it has ended, so the loop must not be gone before.
        while connection._thread.is_alive():  # noqa: SLF001, ASYNC110 - a thread has no event to wait for
            await asyncio.sleep(0.005)
        raise
