"""One connection to the ledger, written by whole transactions, read in short ones.

Invariants: one writing connection a process, and readers that are made from it (:meth:`SqliteStore.reader`); a write is one
function run on aiosqlite's thread between BEGIN IMMEDIATE and COMMIT, so that no other task's statement can fall into it and
cancelling the awaiting task never leaves half of it. Writes that come at the same time are made durable together
(``group_commit.py``). No write begins, or is answered, unless the names still lead to the files that SQLite has open.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

import aiosqlite

from polyb2 import descriptors
from polyb2.clock import Clock
from polyb2.core.errors import LedgerError, LedgerGoneError, UsageError
from polyb2.failpoints import failpoint
from polyb2.ledger.busy_retry import BusyRetry, Rule
from polyb2.ledger.group_commit import Batch, GroupCommit, Outcome, Shared, Work, ended, run_batch
from polyb2.ledger.rows import Check
from polyb2.ledger.sqlite.checks import check_database, check_files
from polyb2.ledger.sqlite.errors import CANNOT_OPEN_CODES, OF_A_STATEMENT, code_of, translated
from polyb2.ledger.sqlite.file_system import can_write_beside, find
from polyb2.ledger.sqlite.files import OpenFiles, check_readable, is_empty, make
from polyb2.ledger.sqlite.lock import FileLock, has_wal_reset_bug
from polyb2.ledger.sqlite.open import NoLedgerError, connect, connect_to_nothing, find_damage, inspect, read_version
from polyb2.ledger.sqlite.transaction import SqliteTransaction, begun

T = TypeVar("T")
W = TypeVar("W")
Item = TypeVar("Item")
WATCH_EVERY_S = 1.0
"""How often an idle process looks whether its ledger is still there; a write looks each time."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The files and the lock behind a connection.

    Attributes:
        path: as the user names it.
        clock: of the ledger.
        lock: of its file.
        files: those that a writer has open, which are watched; a reader of its own watches none.
        exists: False where there is no ledger, and none was made.
        place: in words for people, where it is not that of the path.
    """

    path: Path
    clock: Clock
    lock: FileLock
    files: OpenFiles
    exists: bool = True
    place: str = ""


class SqliteStore:
    """An open ledger file, as :class:`~polyb2.ledger.store.Store`; use :func:`open_store`."""

    def __init__(self, connection: aiosqlite.Connection, opened: Opened, retry: Rule | None) -> None:
        self._busy_retry = BusyRetry(retry)
        self.place = opened.place or str(opened.path.absolute())
        self.exists = opened.exists
        self._connection = connection
        self._opened, self._files = opened, opened.files
        self._commits = GroupCommit(lambda batch: self._submit(self._transact, batch), self._busy_retry.tried)

    async def write(self, name: str, work: Callable[[SqliteTransaction], T]) -> T:
        return await self._write(name, work)

    async def write_shared(
        self, name: str, work: Callable[[SqliteTransaction, Sequence[Item]], list[T]], item: Item
    ) -> T:
        return await self._write(name, Shared(name, work, item))

    async def _write(self, name: str, work: Work[T]) -> T:
        failpoint(f"ledger.{name}.before")
        result = await self._commits.write(work)
        failpoint(f"ledger.{name}.after")
        return result

    async def read(self, work: Callable[[SqliteTransaction], T]) -> T:
        return await self._busy_retry.tried(lambda: self._submit(self._read, work))

    @property
    def trouble(self) -> LedgerError | None:
        return self._busy_retry.problem

    @property
    def losses(self) -> int:
        return 0  # what is lost is a ledger that is gone

    @property
    def gone(self) -> LedgerGoneError | None:
        return self._files.problem

    async def watch(self) -> NoReturn:
        while True:
            await self._busy_retry.tried(lambda: self._submit(self._look, None))
            await asyncio.sleep(WATCH_EVERY_S)

    async def examine(self) -> list[Check]:
        return check_files(self._opened.path, exists=self._opened.path.exists())

    async def check(self) -> list[Check]:
        return await self._busy_retry.tried(lambda: self._submit(self._check, None))

    async def reader(self) -> SqliteStore:
        """A second connection to the same files, which cannot write; SQLite makes it, so that the first keeps its locks."""
        opened = self._opened
        connect_it = partial(_connect, opened, read_only=True) if opened.exists else connect_to_nothing
        return SqliteStore(await _connected(connect_it), opened, lambda _error, _waited_s: False)

    async def close(self) -> None:
        await self._commits.idle()
        await self._submit(self._close, None)
        await ended(asyncio.ensure_future(self._connection.close()))

    def _close(self, connection: sqlite3.Connection, _nothing: None) -> None:
        # On the connection's own thread: a write ahead of it in the queue needs the same lock. Without the lock nothing is
        # at stake: its holder has the ledger open, so that this is not the last connection and checkpoints nothing.
        # Nothing of a ledger that is gone is made again, not even its lock.
        if self.gone is None:
            with suppress(LedgerError, UsageError), self._opened.lock.held():
                connection.close()
        connection.close()

    async def _submit(self, run: Callable[[sqlite3.Connection, W], T], work: W) -> T:
        # aiosqlite's public calls are one statement each; its thread takes any function (the minor version is pinned).
        connection = self._connection
        return await ended(
            asyncio.ensure_future(
                connection._execute(run, connection._conn, work)  # type: ignore[no-untyped-call]  # noqa: SLF001
            )
        )

    def _read(self, connection: sqlite3.Connection, work: Work[T]) -> T:
        with translated(), begun(connection, self._opened.clock, to_write=False) as tx:
            return work(tx)

    def _transact(self, connection: sqlite3.Connection, batch: Batch) -> list[Outcome]:
        lock, clock, files = self._opened.lock, self._opened.clock, self._files
        files.check()
        with lock.held(), translated():
            _check_whole(connection, files)
            outcomes = run_batch(lambda: begun(connection, clock, to_write=True), batch, _is_the_databases)
            # What went into a file that was removed meanwhile is not durable, and must not be answered as if it were.
            files.check()
            files.note_sizes()
            return outcomes

    def _check(self, connection: sqlite3.Connection, _nothing: None) -> list[Check]:
        with translated():
            return check_database(connection)

    def _look(self, connection: sqlite3.Connection, _nothing: None) -> None:
        self._files.check()
        if self._files.has_shrunk():
            with self._opened.lock.held(), translated():
                _check_whole(connection, self._files)


def _is_the_databases(error: Exception) -> bool:
    """True for a full disk or a damaged file: it ends the whole transaction."""
    return isinstance(error, sqlite3.Error) and not isinstance(error, OF_A_STATEMENT)


def _check_whole(connection: sqlite3.Connection, files: OpenFiles) -> None:
    """Raise if the files are not those that SQLite has open, or have lost pages (LedgerGoneError)."""
    files.check()
    if files.has_shrunk():
        if damage := find_damage(connection, files.real):
            raise files.lost(f"{files.real} or its -wal was cut or overwritten ({damage})")
        files.note_sizes()


async def open_store(
    path: Path, clock: Clock, *, read_only: bool = False, make_new: bool = True, retry: Rule | None = None
) -> SqliteStore:
    """Open the ledger at ``path``; a writer creates what is missing and brings the schema up to date.

    This is the only way in: a further connection of the same process is a :meth:`SqliteStore.reader`.

    Raises:
        UsageError: the place is unusable, or the file is not a ledger that this version may touch.
        LedgerError: another process held the ledger for half a minute, or the file cannot be used.
    """
    real = find(path)
    if not read_only and (make_new or check_readable(real)):
        make(real)
    lock = FileLock(real, needed=has_wal_reset_bug(), reading=read_only)
    opened = Opened(path, clock, lock, OpenFiles(real))
    nothing = replace(opened, lock=FileLock(real, needed=False), exists=False)
    may_make = make_new and not read_only
    if not check_readable(real) or (is_empty(real) and not may_make):
        return SqliteStore(await _connected(connect_to_nothing), nothing, retry)
    inspect(real)
    if not read_only:
        lock.make()
    open_it = partial(_connect, opened, read_only=read_only)
    try:
        return SqliteStore(await BusyRetry().tried(lambda: _connected(open_it)), opened, retry)
    except NoLedgerError:
        return SqliteStore(await _connected(connect_to_nothing), nothing, retry)


async def find_version(path: Path) -> int:
    """The version of a ledger's schema, 0 where there is none; opened and closed again before the ledger is."""
    found = find(path)
    if not check_readable(found) or is_empty(found):
        return 0
    inspect(found)
    lock = FileLock(found, needed=has_wal_reset_bug(), reading=True)
    return await BusyRetry().tried(lambda: asyncio.to_thread(read_version, found, lock))


async def empty_store(clock: Clock, place: str) -> SqliteStore:
    """An empty ledger that is gone when it is closed, for another store where there is none; ``place`` is its own."""
    real = Path("no ledger")
    nothing = Opened(real, clock, FileLock(real, needed=False), OpenFiles(real), exists=False, place=place)
    return SqliteStore(await _connected(connect_to_nothing), nothing, None)


def _connect(opened: Opened, *, read_only: bool) -> sqlite3.Connection:
    """A connection to the files; the ledger's own notes them, and a reader beside it checks that they are those."""
    files = opened.files
    # No other process closes the ledger as its last user while we have it open: the files stay as they are noted.
    before, after = (files.check, files.check) if read_only else (files.begin, files.note)
    with _place_named(files.real):
        before()
        connection = connect(files.real, opened.lock, read_only=read_only)
        try:
            after()
        except BaseException:  # raised again; nothing else knows of the connection
            connection.close()
            raise
        return connection


@contextmanager
def _place_named(real: Path) -> Iterator[None]:
    """Name the place where nothing can be written beside a ledger that SQLite cannot open: SQLite says only the latter.

    Raises:
        UsageError: so it is.
    """
    try:
        yield
    except LedgerError as error:
        if code_of(error.__cause__) not in CANNOT_OPEN_CODES or descriptors.problem() or can_write_beside(real):
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
